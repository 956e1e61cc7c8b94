// Which lists can be among the best of a query, before any of their biases is known exactly: centroids once more, a byte a
// coordinate, say it of all but a few. The inner product q c of a query and a centroid, both of which are rounded to
// multiples of a scale of their own, q = q' + e and c = c' + d, is q' c' + q' d + e c: not further from q' c' than
// |q'| |d| + |e| |c|.
#pragma once

#include <cstdint>
#include <vector>

#include "poeem/index_view.h"

namespace poeem {

constexpr std::int64_t kListBlock = 16;
constexpr std::int64_t kMostByteDim = 32768;  // sums of more products of bytes might leave 32 bits
constexpr std::int64_t kQuad = 4;  // coordinates that are multiplied and added up at once

// All but `bytes` have num_blocks * kListBlock numbers; those beyond the last list are 0.
struct ByteLists {
  std::int64_t num_blocks, num_quads;
  const std::int8_t* bytes;     // [num_blocks, num_quads, kListBlock, kQuad]
  const std::int32_t* offsets;  // 128 times the sum of a list's bytes: a query's are 128 too large
  const float* scales;          // what 1 of a list is worth
  const float* errors;          // at least |d|
  const float* lengths;         // at least |c|
};

struct ListBoundsTask {
  const std::uint8_t* query;    // [num_quads * kQuad], 128 = 0
  float scale;                  // what 1 of them is worth
  float length, error;          // at least |q'|, and |e| with what float arithmetic adds to it
  float *low, *high;            // [num_blocks * kListBlock]: a bias, summed as DESIGN.md has it, lies between
};

// Owns what a ByteLists shows.
class PackedLists {
 public:
  PackedLists() = default;
  PackedLists(const PackedLists&) = delete;  // `lists` points into it
  PackedLists& operator=(const PackedLists&) = delete;
  // centroids: [num_lists, dim], dim up to kMostByteDim. Lists that are not finite, or too small for a scale, get no bounds.
  void pack(const float* centroids, std::int64_t num_lists, std::int64_t dim);
  const ByteLists& lists() const { return lists_; }

 private:
  ByteLists lists_{};
  std::vector<std::int8_t> bytes_;
  std::vector<std::int32_t> offsets_;
  std::vector<float> scales_, errors_, lengths_;
};

// A query's bytes, and the rest of its task but low and high. bytes: [num_quads * kQuad].
ListBoundsTask pack_query(const float* query, std::int64_t dim, const ByteLists& lists, std::uint8_t* bytes);

}  // namespace poeem
