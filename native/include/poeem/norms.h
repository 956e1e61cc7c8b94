// Norms of decoded items, computed once when an index is built.
#pragma once

#include "poeem/index_view.h"

namespace poeem {

// out[i - begin] = |T(x_i)|^2 (squared) or |T(x_i)| of items [begin, end). The sum of squares runs over j = 0..dim-1 in
// float64, each coordinate being centroid + codeword in float64, for residual codes ((centroid + codeword 0) + codeword 1) +
// ... Throws Error where a code is not below num_codewords.
void item_norms(const IndexView& index, bool squared, std::int64_t begin, std::int64_t end, float* out);

// Of all items.
inline void item_norms(const IndexView& index, bool squared, float* out) {
  item_norms(index, squared, 0, index.num_items, out);
}

}  // namespace poeem
