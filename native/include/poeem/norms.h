// Norms of decoded items, computed once when an index is built.
#pragma once

#include "poeem/index_view.h"

namespace poeem {

// out[i] = |T(x_i)|^2 (squared) or |T(x_i)|, [num_items]. The sum of squares runs over j = 0..dim-1 in
// float64, each coordinate being centroid + codeword in float64. Every code must be < num_codewords.
void item_norms(const IndexView& index, bool squared, float* out);

}  // namespace poeem
