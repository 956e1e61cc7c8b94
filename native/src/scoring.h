// Scores in float32, operation by operation as DESIGN.md has them: the truth that every faster path ends in.
#pragma once

#include <cstdint>

#include "poeem/index_view.h"

namespace poeem {

// Floats between table[m] and table[m + 1]. Tables of narrow codes are padded to the full range of
// a code, so that no byte or nibble whatever can read beyond them; what no codeword fills is NaN, and so is the score.
inline std::int64_t table_stride(const IndexView& index) {
  switch (index.width) {
    case CodeWidth::kFourBit: return 16;
    case CodeWidth::kByte: return 256;
    default: return index.num_codewords;
  }
}

// score = ((bias + table[0, c_0]) + table[1, c_1]) + ..., then the norm as the metric wants it: of `count` items at any
// positions. table: [num_subspaces, table_stride(index)].
void score_items(const IndexView& index, const std::int64_t* positions, std::int64_t count, const float* table,
                 float bias, float* scores);

// The same for all items of a unit that exist; scores: [kUnitItems].
void score_unit(const IndexView& index, std::int64_t unit, const float* table, float bias,
                float* scores);

}  // namespace poeem
