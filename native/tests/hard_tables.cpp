#include "hard_tables.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "random_index.h"

namespace {

enum Kind { kRoundsUp, kHugeRange, kOneHigh, kOneLow, kNeighbours, kConstant, kMostlyZero, kNumKinds };

// The entry of column m and code c, where queries are ones.
float entry(Kind kind, std::int64_t m, std::int64_t c, std::mt19937& random) {
  const float normal = std::normal_distribution<float>()(random);
  switch (kind) {
    case kRoundsUp:  // from 2^24 on floats are 2 apart: a little more than 1 counts 2
      return m == 0 ? 16777216.0F : c == 1 ? std::nextafter(1.0F, 2.0F) : 0.9F;
    case kHugeRange:
      return std::copysign(std::pow(10.0F, std::uniform_real_distribution<float>(-30, 30)(random)), normal);
    case kOneHigh:
      return m == 0 && c == 77 ? 1e20F : normal;
    case kOneLow:
      return m == 0 && c == 77 ? -1e20F : normal;
    case kNeighbours:  // a unit in the last place apart, where sums round
      return 1048576.0F + std::round(normal * 4) / 8;
    case kConstant:
      return 0.3F;
    default:
      return random() % 20 == 0 ? normal : 0.0F;
  }
}

// Give an index of product codes such tables; `best` is the item with the highest sum where sums round up.
void harden(Index& index, Kind kind, std::int64_t best, std::mt19937& random) {
  const std::int64_t columns = index.view.num_subspaces, words = index.view.num_codewords, width = index.view.sub_dim;
  for (std::int64_t m = 0; m < columns; ++m)
    for (std::int64_t c = 0; c < words; ++c) {
      float* word = index.codebooks.data() + (m * words + c) * width;
      std::fill(word, word + width, 0.0F);
      word[0] = entry(kind, m, c, random);
    }
  index.put_codebooks_in_panels();
  if (kind != kRoundsUp) return;
  std::fill(index.codes.begin(), index.codes.end(), std::uint8_t{1});
  for (std::int64_t item = 0; item < index.view.num_items; ++item)
    if (item != best) index.codes[static_cast<std::size_t>((item / 256 * columns + 1) * 256 + item % 256)] = 0;
}

bool agrees(const Index& index, std::int64_t k, std::mt19937& random) {
  std::vector<float> queries(static_cast<std::size_t>(index.view.dim), 1.0F);
  const std::vector<float> other = normal(index.view.dim, random);
  queries.insert(queries.end(), other.begin(), other.end());
  poeem::SearchRequest request;
  request.queries = queries.data();
  request.num_queries = 2;
  request.num_probes = index.view.num_lists > 0 ? 2 : 0;
  request.k = k;
  return kernels_answer_alike(index.view, request);
}

}  // namespace

bool hard_tables_agree(std::mt19937& random) {
  for (const std::int64_t columns : {16, 40})
    for (const std::int64_t lists : {0, 3})
      for (int kind = 0; kind < kNumKinds; ++kind) {
        const std::int64_t items = columns > 16 ? 36'000 : 9000;  // more than a shortlist has
        Index index({items, columns, 256, lists, Metric::kInnerProduct, false}, random);
        harden(index, static_cast<Kind>(kind), items - 1, random);
        if (agrees(index, 1, random) && agrees(index, 7, random)) continue;
        std::printf("hard tables of kind %d, %d columns, %d lists: a kernel differs\n", kind, static_cast<int>(columns),
                    static_cast<int>(lists));
        return false;
      }
  return true;
}
