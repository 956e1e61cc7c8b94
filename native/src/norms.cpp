#include "poeem/norms.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "poeem/error.h"

namespace poeem {
namespace {

// The codeword of an item in a codebook.
const float* codeword_of(const IndexView& index, std::int64_t item, std::int64_t m) {
  const std::int64_t code = index.code_at(item, m);
  if (code >= index.num_codewords)
    throw Error(ErrorCode::kCorrupt, "codes: some are not below num_codewords");
  return index.codebooks + (m * index.num_codewords + code) * index.sub_dim;
}

double square_of_product(const IndexView& index, std::int64_t item, const float* centroid) {
  double square = 0.0;
  for (std::int64_t m = 0; m < index.num_subspaces; ++m) {
    const float* codeword = codeword_of(index, item, m);
    for (std::int64_t j = 0; j < index.sub_dim; ++j) {
      double value = codeword[j];
      if (centroid != nullptr) value += static_cast<double>(centroid[m * index.sub_dim + j]);
      square += value * value;
    }
  }
  return square;
}

// sums: [dim], working memory.
double square_of_sum(const IndexView& index, std::int64_t item, const float* centroid,
                     double* sums) {
  for (std::int64_t j = 0; j < index.dim; ++j)
    sums[j] = centroid == nullptr ? 0.0 : static_cast<double>(centroid[j]);
  for (std::int64_t m = 0; m < index.num_subspaces; ++m) {
    const float* codeword = codeword_of(index, item, m);
    for (std::int64_t j = 0; j < index.dim; ++j) sums[j] += static_cast<double>(codeword[j]);
  }
  double square = 0.0;
  for (std::int64_t j = 0; j < index.dim; ++j) square += sums[j] * sums[j];
  return square;
}

}  // namespace

void item_norms(const IndexView& index, bool squared, std::int64_t begin, std::int64_t end, float* out) {
  std::vector<double> sums(static_cast<std::size_t>(index.dim));
  std::int64_t list = 0;
  if (index.num_lists > 0) {
    const std::int64_t* offsets = index.list_offsets;
    list = std::upper_bound(offsets, offsets + index.num_lists + 1, begin) - offsets - 1;
  }
  for (std::int64_t i = begin; i < end; ++i) {
    const float* centroid = nullptr;
    if (index.num_lists > 0) {
      while (index.list_offsets[list + 1] <= i) ++list;
      centroid = index.centroids + list * index.dim;
    }
    const double square = index.full_width ? square_of_sum(index, i, centroid, sums.data())
                                           : square_of_product(index, i, centroid);
    out[i - begin] = static_cast<float>(squared ? square : std::sqrt(square));
  }
}

}  // namespace poeem
