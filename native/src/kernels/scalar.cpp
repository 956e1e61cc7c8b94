// The portable kernel: the truth every faster one is tested against.
#include <algorithm>
#include <cstring>

#include "kernels.h"

namespace poeem {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files and load8() are little-endian");

constexpr std::int64_t kBlock = 256;  // scores of a block stay in the first-level cache

// Four rows at a time: four independent chains of additions hide the latency of each.
struct ByteCodes {
  static void four(const std::uint8_t* row, std::int64_t num_subspaces, std::int64_t,
                   const float* table, float* scores) {
    const std::uint8_t* row1 = row + num_subspaces;
    const std::uint8_t* row2 = row1 + num_subspaces;
    const std::uint8_t* row3 = row2 + num_subspaces;
    float s0 = scores[0], s1 = scores[1], s2 = scores[2], s3 = scores[3];
    std::int64_t m = 0;
    // Eight codes per load: the look-ups themselves are then most of the loads there are.
    for (; m + 8 <= num_subspaces; m += 8, table += 8 * 256) {
      std::uint64_t c0 = load8(row + m), c1 = load8(row1 + m);
      std::uint64_t c2 = load8(row2 + m), c3 = load8(row3 + m);
      for (int i = 0; i < 8; ++i) {
        s0 += table[i * 256 + (c0 & 255)];
        s1 += table[i * 256 + (c1 & 255)];
        s2 += table[i * 256 + (c2 & 255)];
        s3 += table[i * 256 + (c3 & 255)];
        c0 >>= 8, c1 >>= 8, c2 >>= 8, c3 >>= 8;
      }
    }
    for (; m < num_subspaces; ++m, table += 256) {
      s0 += table[row[m]];
      s1 += table[row1[m]];
      s2 += table[row2[m]];
      s3 += table[row3[m]];
    }
    scores[0] = s0, scores[1] = s1, scores[2] = s2, scores[3] = s3;
  }
  static float one(const std::uint8_t* row, std::int64_t num_subspaces, std::int64_t,
                   const float* table, float score) {
    for (std::int64_t m = 0; m < num_subspaces; ++m, table += 256) score += table[row[m]];
    return score;
  }

 private:
  static std::uint64_t load8(const std::uint8_t* bytes) {
    std::uint64_t value;
    std::memcpy(&value, bytes, sizeof value);
    return value;
  }
};

struct WordCodes {
  static void four(const std::uint8_t* row, std::int64_t num_subspaces, std::int64_t stride,
                   const float* table, float* scores) {
    const auto* codes = reinterpret_cast<const std::uint16_t*>(row);
    for (std::int64_t m = 0; m < num_subspaces; ++m, table += stride)
      for (int i = 0; i < 4; ++i) scores[i] += table[codes[i * num_subspaces + m]];
  }
  static float one(const std::uint8_t* row, std::int64_t num_subspaces, std::int64_t stride,
                   const float* table, float score) {
    const auto* codes = reinterpret_cast<const std::uint16_t*>(row);
    for (std::int64_t m = 0; m < num_subspaces; ++m, table += stride) score += table[codes[m]];
    return score;
  }
};

struct FourBitCodes {
  static void four(const std::uint8_t* row, std::int64_t num_subspaces, std::int64_t,
                   const float* table, float* scores) {
    const std::int64_t row_bytes = (num_subspaces + 1) / 2;
    float sums[4] = {scores[0], scores[1], scores[2], scores[3]};
    for (std::int64_t b = 0; b < num_subspaces / 2; ++b, table += 32) {
      for (int i = 0; i < 4; ++i) {
        const std::uint8_t pair = row[i * row_bytes + b];
        sums[i] += table[pair & 15];
        sums[i] += table[16 + (pair >> 4)];
      }
    }
    for (int i = 0; i < 4; ++i) {
      if (num_subspaces % 2 == 1) sums[i] += table[row[(i + 1) * row_bytes - 1] & 15];
      scores[i] = sums[i];
    }
  }
  static float one(const std::uint8_t* row, std::int64_t num_subspaces, std::int64_t,
                   const float* table, float score) {
    for (std::int64_t m = 0; m < num_subspaces; ++m, table += 16)
      score += table[(row[m / 2] >> (m % 2 * 4)) & 15];
    return score;
  }
};

template <class Codes>
void score_block(const IndexView& index, std::int64_t begin, std::int64_t count, const float* table,
                 float bias, float* scores) {
  const std::int64_t row_bytes = index.row_bytes();
  const std::int64_t stride = table_stride(index);
  const auto* row = static_cast<const std::uint8_t*>(index.codes) + begin * row_bytes;
  std::fill(scores, scores + count, bias);
  std::int64_t i = 0;
  for (; i + 4 <= count; i += 4, row += 4 * row_bytes)
    Codes::four(row, index.num_subspaces, stride, table, scores + i);
  for (; i < count; ++i, row += row_bytes)
    scores[i] = Codes::one(row, index.num_subspaces, stride, table, scores[i]);
}

void apply_norms(const IndexView& index, std::int64_t begin, std::int64_t count, float* scores) {
  const float* norms = index.norms + begin;
  if (index.metric == Metric::kCosine) {
    for (std::int64_t i = 0; i < count; ++i)
      scores[i] = norms[i] == 0.0F ? 0.0F : scores[i] / norms[i];
  } else {
    for (std::int64_t i = 0; i < count; ++i) scores[i] -= norms[i];
  }
}

template <class Codes>
void scan_codes(const IndexView& index, std::int64_t begin, std::int64_t end, const float* table,
                float bias, TopK& best) {
  float scores[kBlock];
  float threshold = best.threshold();
  for (; begin < end; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, end - begin);
    score_block<Codes>(index, begin, count, table, bias, scores);
    if (index.uses_norms()) apply_norms(index, begin, count, scores);
    for (std::int64_t i = 0; i < count; ++i) {
      // One comparison per item; ids are read and the heap touched only by what may get in. NaN never does.
      if (scores[i] >= threshold) {
        best.offer({scores[i], index.id_at(begin + i)});
        threshold = best.threshold();
      }
    }
  }
}

void scan(const IndexView& index, std::int64_t begin, std::int64_t end, const float* table,
          float bias, TopK& best) {
  switch (index.width) {
    case CodeWidth::kFourBit: return scan_codes<FourBitCodes>(index, begin, end, table, bias, best);
    case CodeWidth::kByte: return scan_codes<ByteCodes>(index, begin, end, table, bias, best);
    case CodeWidth::kWord: return scan_codes<WordCodes>(index, begin, end, table, bias, best);
  }
}

bool always() { return true; }

}  // namespace

const Kernel kScalarKernel = {"scalar", "portable C++, one table look-up per code", "any", always, scan,
                              &kNearestScalar};

}  // namespace poeem
