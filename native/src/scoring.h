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

// An item of any list, in any segment of one quantizer.
struct ItemToScore {
  const std::uint8_t* codes;  // IndexView::codes_of
  float bias;
  float norm;                 // where the metric uses it
};

// score = ((bias + table[0, c_0]) + table[1, c_1]) + ..., then the norm as the metric wants it. index: for the quantizer.
// table: [num_subspaces, table_stride(index)].
void score_items(const IndexView& index, const ItemToScore* items, std::int64_t count, const float* table,
                 float* scores);

// The same for all items of a unit that exist, which have one bias; scores: [kUnitItems].
void score_unit(const IndexView& index, std::int64_t unit, const float* table, float bias,
                float* scores);

}  // namespace poeem
