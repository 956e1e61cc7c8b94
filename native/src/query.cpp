// Steps 1 to 4 and 7 of DESIGN.md, "Scores, to the last bit". Every sum runs in the order given there.
#include "query.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "scoring.h"

namespace poeem {
namespace {

constexpr std::int64_t kRows = 8;  // rows summed at once: independent chains hide the latency of additions

struct Product {
  static float step(float sum, float a, float b) { return sum + a * b; }
};

struct MinusSquare {
  static float step(float sum, float a, float b) { return sum - (a - b) * (a - b); }
};

// out[r] = sequential sum over j of the step of vector[j] and matrix[r, j], from 0.
template <class Term>
void reduce_rows(const float* matrix, std::int64_t num_rows, std::int64_t width,
                 const float* vector, float* out) {
  std::int64_t r = 0;
  for (; r + kRows <= num_rows; r += kRows, matrix += kRows * width) {
    float sums[kRows] = {};
    for (std::int64_t j = 0; j < width; ++j)
      for (std::int64_t i = 0; i < kRows; ++i)
        sums[i] = Term::step(sums[i], vector[j], matrix[i * width + j]);
    std::copy(sums, sums + kRows, out + r);
  }
  for (; r < num_rows; ++r, matrix += width) {
    float sum = 0.0F;
    for (std::int64_t j = 0; j < width; ++j) sum = Term::step(sum, vector[j], matrix[j]);
    out[r] = sum;
  }
}

// The same sums where the matrix is also there with its rows side by side, [width, num_rows]: each row's own additions
// run in the same order, many rows at a time.
template <class Term>
void reduce_columns(const float* matrix_t, std::int64_t num_rows, std::int64_t width,
                    const float* vector, float* __restrict out) {
  std::fill(out, out + num_rows, 0.0F);
  std::int64_t j = 0;
  for (; j + 4 <= width; j += 4, matrix_t += 4 * num_rows) {
    const float* a = matrix_t;
    const float* b = a + num_rows;
    const float* c = b + num_rows;
    const float* d = c + num_rows;
    for (std::int64_t r = 0; r < num_rows; ++r) {
      float sum = Term::step(out[r], vector[j], a[r]);
      sum = Term::step(sum, vector[j + 1], b[r]);
      sum = Term::step(sum, vector[j + 2], c[r]);
      out[r] = Term::step(sum, vector[j + 3], d[r]);
    }
  }
  for (; j < width; ++j, matrix_t += num_rows)
    for (std::int64_t r = 0; r < num_rows; ++r) out[r] = Term::step(out[r], vector[j], matrix_t[r]);
}

template <class Term>
void reduce(const float* matrix, const float* matrix_t, std::int64_t num_rows, std::int64_t width,
            const float* vector, float* out) {
  if (matrix_t != nullptr) {
    reduce_columns<Term>(matrix_t, num_rows, width, vector, out);
  } else {
    reduce_rows<Term>(matrix, num_rows, width, vector, out);
  }
}

void normalize(const float* query, std::int64_t dim, float* out) {
  double square = 0.0;
  for (std::int64_t j = 0; j < dim; ++j) square += static_cast<double>(query[j]) * query[j];
  const float length = static_cast<float>(std::sqrt(square));
  for (std::int64_t j = 0; j < dim; ++j) out[j] = length == 0.0F ? 0.0F : query[j] / length;
}

}  // namespace

QueryPlan::QueryPlan(const IndexView& index)
    : index_(index),
      normalized_(static_cast<std::size_t>(index.metric == Metric::kCosine ? index.dim : 0)),
      rotated_(static_cast<std::size_t>(index.dim)),
      table_(static_cast<std::size_t>(index.num_subspaces * table_stride(index)),
             std::numeric_limits<float>::quiet_NaN()),
      biases_(static_cast<std::size_t>(index.num_lists)),
      probe_scores_(static_cast<std::size_t>(index.num_lists)) {}

void QueryPlan::prepare(const float* query, std::int64_t num_probes) {
  if (index_.metric == Metric::kCosine) {
    normalize(query, index_.dim, normalized_.data());
    query = normalized_.data();
  }
  rotate(query);
  build_table();
  if (index_.num_lists > 0) {
    compute_biases();
    choose_lists(num_probes);
  }
}

void QueryPlan::rotate(const float* query) {
  if (index_.rotation == nullptr) {
    std::copy(query, query + index_.dim, rotated_.begin());
  } else {
    reduce<Product>(index_.rotation, index_.rotation_t, index_.dim, index_.dim, query,
                    rotated_.data());
  }
}

void QueryPlan::build_table() {
  const std::int64_t stride = table_stride(index_);
  const bool l2 = index_.metric == Metric::kL2;
  for (std::int64_t m = 0; m < index_.num_subspaces; ++m) {
    const std::int64_t start = m * index_.num_codewords * index_.sub_dim;
    const float* words = index_.codebooks + start;
    const float* words_t = index_.codebooks_t == nullptr ? nullptr : index_.codebooks_t + start;
    const float* part = rotated_.data() + m * index_.sub_dim;
    float* row = table_.data() + m * stride;
    if (l2 && index_.num_lists == 0) {
      reduce<MinusSquare>(words, words_t, index_.num_codewords, index_.sub_dim, part, row);
      continue;
    }
    reduce<Product>(words, words_t, index_.num_codewords, index_.sub_dim, part, row);
    if (l2) {
      for (std::int64_t k = 0; k < index_.num_codewords; ++k) row[k] *= 2.0F;
    }
  }
}

void QueryPlan::compute_biases() {
  reduce<Product>(index_.centroids, index_.centroids_t, index_.num_lists, index_.dim,
                  rotated_.data(), biases_.data());
  if (index_.metric != Metric::kL2) return;
  float square = 0.0F;
  for (float value : rotated_) square += value * value;
  for (float& bias : biases_) bias = 2.0F * bias - square;
}

void QueryPlan::choose_lists(std::int64_t num_probes) {
  probes_.resize(biases_.size());
  std::iota(probes_.begin(), probes_.end(), std::int64_t{0});
  for (std::size_t l = 0; l < biases_.size(); ++l) {
    float score = biases_[l];
    if (index_.metric == Metric::kL2) score -= index_.list_norms[l];
    if (index_.metric == Metric::kCosine)
      score = index_.list_norms[l] == 0.0F ? 0.0F : score / index_.list_norms[l];
    // NaN (after an overflow) has no place in an order; such a list comes last.
    probe_scores_[l] = std::isnan(score) ? -std::numeric_limits<float>::infinity() : score;
  }
  const auto before = [this](std::int64_t a, std::int64_t b) {
    const float score_a = probe_scores_[static_cast<std::size_t>(a)];
    const float score_b = probe_scores_[static_cast<std::size_t>(b)];
    return score_a > score_b || (score_a == score_b && a < b);
  };
  const auto middle = probes_.begin() + num_probes;
  std::partial_sort(probes_.begin(), middle, probes_.end(), before);
  probes_.erase(middle, probes_.end());
}

}  // namespace poeem
