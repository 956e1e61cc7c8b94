#include "scoring.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace poeem {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files and loads are little-endian");

constexpr int kItems = 8;  // items at once: independent chains of additions hide the latency of each

std::uint64_t load8(const std::uint8_t* bytes) {
  std::uint64_t value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// A code of two bytes may be beyond its table. Such an item has no score.
float entry(const float* table, std::int64_t code, std::int64_t stride) {
  return code < stride ? table[code] : std::numeric_limits<float>::quiet_NaN();
}

// codes: the first of kItems items in column 0; the next column is kBlockItems further.
struct ByteCodes {
  using Code = std::uint8_t;
  static constexpr std::int64_t kPerColumn = 1;
  static float find(const Code* codes, std::int64_t, const float* table, std::int64_t) { return table[*codes]; }
  static void add(const Code* codes, const float* table, std::int64_t, bool, float* sums) {
    std::uint64_t eight = load8(codes);
    for (int i = 0; i < kItems; ++i, eight >>= 8) sums[i] += table[eight & 255];
  }
};

struct WordCodes {
  using Code = std::uint16_t;
  static constexpr std::int64_t kPerColumn = 1;
  static float find(const Code* codes, std::int64_t, const float* table, std::int64_t stride) {
    return entry(table, *codes, stride);
  }
  static void add(const Code* codes, const float* table, std::int64_t stride, bool, float* sums) {
    for (int i = 0; i < kItems; ++i) sums[i] += entry(table, codes[i], stride);
  }
};

struct FourBitCodes {
  using Code = std::uint8_t;
  static constexpr std::int64_t kPerColumn = 2;
  static float find(const Code* codes, std::int64_t place, const float* table, std::int64_t) {
    return table[(*codes >> (4 * place)) & 15];
  }
  static void add(const Code* codes, const float* table, std::int64_t stride, bool both,
                  float* sums) {
    const std::uint64_t eight = load8(codes);
    for (int i = 0; i < kItems; ++i) sums[i] += table[(eight >> (8 * i)) & 15];
    if (!both) return;
    for (int i = 0; i < kItems; ++i) sums[i] += table[stride + ((eight >> (8 * i + 4)) & 15)];
  }
};

template <class Codes>
void score_codes(const IndexView& index, std::int64_t unit, const float* table, float bias,
                 float* scores) {
  constexpr std::int64_t kUnits = kBlockItems / kUnitItems;
  const auto* codes = reinterpret_cast<const typename Codes::Code*>(index.block(unit / kUnits)) +
                      unit % kUnits * kUnitItems;
  const std::int64_t stride = table_stride(index);
  const std::int64_t num_columns = index.columns();
  const std::int64_t column_stride = stride * (index.width == CodeWidth::kFourBit ? 2 : 1);
  const bool last_is_full = index.num_subspaces % 2 == 0;
  for (std::int64_t item = 0; item < kUnitItems; item += kItems) {
    float sums[kItems];
    for (float& sum : sums) sum = bias;
    const auto* from = codes + item;
    const float* row = table;
    for (std::int64_t c = 0; c < num_columns; ++c, from += kBlockItems, row += column_stride)
      Codes::add(from, row, stride, last_is_full || c + 1 < num_columns, sums);
    std::copy(sums, sums + kItems, scores + item);
  }
}

// The same for items anywhere. What they need is often not in the nearest cache, so they are fetched side by side.
template <class Codes>
void score_eight(const IndexView& index, const ItemToScore* items, const float* table, float* sums) {
  const typename Codes::Code* codes[kItems];
  for (int i = 0; i < kItems; ++i) {
    codes[i] = reinterpret_cast<const typename Codes::Code*>(items[i].codes);
    sums[i] = items[i].bias;
  }
  const std::int64_t stride = table_stride(index);
  constexpr std::int64_t kPerColumn = Codes::kPerColumn;
  for (std::int64_t m = 0; m < index.num_subspaces; ++m, table += stride)
    for (int i = 0; i < kItems; ++i)
      sums[i] += Codes::find(codes[i] + m / kPerColumn * kBlockItems, m % kPerColumn, table, stride);
}

float with_norm(const IndexView& index, float norm, float score) {
  if (index.metric == Metric::kCosine) return norm == 0.0F ? 0.0F : score / norm;
  return score - norm;
}

}  // namespace

void score_items(const IndexView& index, const ItemToScore* items, std::int64_t count, const float* table,
                 float* scores) {
  for (; count > 0; count -= kItems, items += kItems, scores += kItems) {
    const int used = static_cast<int>(std::min<std::int64_t>(count, kItems));
    ItemToScore eight[kItems];
    for (int i = 0; i < kItems; ++i) eight[i] = items[i < used ? i : 0];
    float sums[kItems] = {};
    switch (index.width) {
      case CodeWidth::kFourBit: score_eight<FourBitCodes>(index, eight, table, sums); break;
      case CodeWidth::kByte: score_eight<ByteCodes>(index, eight, table, sums); break;
      case CodeWidth::kWord: score_eight<WordCodes>(index, eight, table, sums); break;
    }
    for (int i = 0; i < used; ++i)
      scores[i] = index.uses_norms() ? with_norm(index, eight[i].norm, sums[i]) : sums[i];
  }
}

void score_unit(const IndexView& index, std::int64_t unit, const float* table, float bias,
                float* scores) {
  switch (index.width) {
    case CodeWidth::kFourBit: score_codes<FourBitCodes>(index, unit, table, bias, scores); break;
    case CodeWidth::kByte: score_codes<ByteCodes>(index, unit, table, bias, scores); break;
    case CodeWidth::kWord: score_codes<WordCodes>(index, unit, table, bias, scores); break;
  }
  if (!index.uses_norms()) return;
  const std::int64_t begin = unit * kUnitItems;
  const std::int64_t count = std::min(kUnitItems, index.num_items - begin);
  for (std::int64_t i = 0; i < count; ++i)
    scores[i] = with_norm(index, index.norms[begin + i], scores[i]);
}

}  // namespace poeem
