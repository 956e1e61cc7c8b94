// What is checked of an index from a stranger. The rest of the core takes counts, shapes and offsets at their word; it
// takes no value inside codes, ids, norms or floats at its word: whatever they are, nothing beyond an array is read.
#pragma once

#include <cstdint>

#include "poeem/index_view.h"

namespace poeem {

// Counts are positive (items: or 0), go together, and every size that follows from them fits int64. Looks at no array.
// Throws Error.
void check_counts(const IndexView& index);

// List offsets rise from 0 to num_items. Throws Error.
void check_offsets(const IndexView& index);

// The position of an item whose id an earlier list holds too, or -1. Within a list ids must rise. Takes memory for
// num_lists, not for num_items.
std::int64_t find_repeated_id(const IndexView& index);

// The first item whose norm is off |T(x)| (cosine), or its square (l2 with lists or of residual codes), by more than a share
// of `tolerance`, or -1. Throws Error where a code is not below num_codewords.
std::int64_t find_wrong_norm(const IndexView& index, double tolerance);

}  // namespace poeem
