#include "poeem/validate.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "poeem/error.h"
#include "poeem/norms.h"

namespace poeem {
namespace {

void require(bool condition, const char* message) {
  if (!condition) throw Error(ErrorCode::kShape, message);
}

// The largest array in bytes; leaves room for what is added to sizes and positions.
constexpr std::int64_t kLargest = std::int64_t{1} << 60;

// a * b, or more than kLargest where it is more; neither is negative.
std::int64_t product(std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  if (__builtin_mul_overflow(a, b, &result) || result > kLargest) return kLargest + 1;
  return result;
}

std::int64_t product(std::int64_t a, std::int64_t b, std::int64_t c) {
  if (a == 0 || b == 0 || c == 0) return 0;
  return product(product(a, b), c);
}

// A list, and the place in it that a merge has come to.
struct Head {
  std::int64_t id, position, end;
};

}  // namespace

void check_counts(const IndexView& index) {
  require(index.num_items >= 0 && index.num_items <= kLargest, "num_items: out of range");
  require(index.num_subspaces > 0 && index.sub_dim > 0 && index.num_codewords > 0,
          "codebooks: empty");
  require(index.num_lists >= 0, "num_lists: negative");
  const auto bits = static_cast<int>(index.width);
  require(bits == 4 || bits == 8 || bits == 16, "code_bits: wanted 4, 8 or 16");
  require(index.num_codewords <= std::int64_t{1} << bits,
          "codebooks: more codewords than code_bits can tell apart");
  require((index.full_width ? index.sub_dim : product(index.num_subspaces, index.sub_dim)) == index.dim,
          "dim: not num_subspaces * sub_dim, or sub_dim of codewords of full width");
  // A table has 256 entries for a byte, whatever num_codewords is; an entry takes up to 8 bytes.
  const std::int64_t entries = std::max<std::int64_t>(index.num_codewords, 256);
  require(product(index.num_subspaces, product(index.sub_dim, entries), 8) <= kLargest,
          "codebooks: too large");
  require(product(index.dim, index.dim, 8) <= kLargest, "rotation: too large");
  require(product(index.dim, index.num_lists, 8) <= kLargest && index.num_lists < kLargest / 64,
          "centroids: too large");
  // Positions and bytes of codes, the last block being whole; 2 bytes to a code.
  require(product(index.num_items / kBlockItems + 1, kBlockItems * 2, index.num_subspaces) <= kLargest,
          "codes: too large");
  require(index.num_items <= kLargest / 64, "num_items: too large");
}

void check_offsets(const IndexView& index) {
  if (index.num_lists == 0) return;
  const std::int64_t* offsets = index.list_offsets;
  bool good = offsets[0] == 0 && offsets[index.num_lists] == index.num_items;
  for (std::int64_t l = 0; l < index.num_lists; ++l) good = good && offsets[l] <= offsets[l + 1];
  if (!good) throw Error(ErrorCode::kCorrupt, "list_offsets: do not rise from 0 to num_items");
}

std::int64_t find_repeated_id(const IndexView& index) {
  if (index.num_lists < 2) return -1;
  // A heap of the lists' heads, the smallest id on top, so that equal ids come one after the other.
  std::vector<Head> heads;
  for (std::int64_t l = 0; l < index.num_lists; ++l) {
    const std::int64_t begin = index.list_offsets[l], end = index.list_offsets[l + 1];
    if (begin < end) heads.push_back({index.id_at(begin), begin, end});
  }
  const auto later = [](const Head& a, const Head& b) {
    return a.id > b.id || (a.id == b.id && a.position > b.position);
  };
  std::make_heap(heads.begin(), heads.end(), later);
  bool first = true;
  std::int64_t last = 0;
  while (!heads.empty()) {
    std::pop_heap(heads.begin(), heads.end(), later);
    Head& head = heads.back();
    if (!first && head.id == last) return head.position;
    first = false;
    last = head.id;
    if (++head.position == head.end) {
      heads.pop_back();
      continue;
    }
    head.id = index.id_at(head.position);
    std::push_heap(heads.begin(), heads.end(), later);
  }
  return -1;
}

std::int64_t find_wrong_norm(const IndexView& index, double tolerance) {
  if (!index.uses_norms()) return -1;
  if (index.norms == nullptr) throw Error(ErrorCode::kShape, "norms: missing, and this metric needs them");
  // A part at a time: an array of all norms would take as much memory as the index.
  constexpr std::int64_t kPart = 4096;
  std::vector<float> wanted(static_cast<std::size_t>(std::min(kPart, index.num_items)));
  for (std::int64_t begin = 0; begin < index.num_items; begin += kPart) {
    const std::int64_t end = std::min(begin + kPart, index.num_items);
    item_norms(index, index.metric == Metric::kL2, begin, end, wanted.data());
    for (std::int64_t i = begin; i < end; ++i) {
      const auto right = static_cast<double>(wanted[static_cast<std::size_t>(i - begin)]);
      const auto found = static_cast<double>(index.norms[i]);
      if (!(std::abs(found - right) <= tolerance * right)) return i;
    }
  }
  return -1;
}

}  // namespace poeem
