#include "poeem/norms.h"

#include <cmath>
#include <cstddef>

namespace poeem {
namespace {

double square_of_item(const IndexView& index, std::int64_t item, const float* centroid) {
  double square = 0.0;
  for (std::int64_t m = 0; m < index.num_subspaces; ++m) {
    const std::int64_t code = index.code_at(item, m);
    const float* codeword = index.codebooks + (m * index.num_codewords + code) * index.sub_dim;
    for (std::int64_t j = 0; j < index.sub_dim; ++j) {
      double value = codeword[j];
      if (centroid != nullptr) value += static_cast<double>(centroid[m * index.sub_dim + j]);
      square += value * value;
    }
  }
  return square;
}

}  // namespace

void item_norms(const IndexView& index, bool squared, float* out) {
  const std::int64_t num_runs = index.num_lists == 0 ? 1 : index.num_lists;
  for (std::int64_t list = 0; list < num_runs; ++list) {
    const bool lists = index.num_lists > 0;
    const std::int64_t begin = lists ? index.list_offsets[list] : 0;
    const std::int64_t end = lists ? index.list_offsets[list + 1] : index.num_items;
    const float* centroid = lists ? index.centroids + list * index.dim : nullptr;
    for (std::int64_t i = begin; i < end; ++i) {
      const double square = square_of_item(index, i, centroid);
      out[i] = static_cast<float>(squared ? square : std::sqrt(square));
    }
  }
}

}  // namespace poeem
