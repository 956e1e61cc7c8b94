// Steps 1 to 4 and 7 of DESIGN.md, "Scores, to the last bit". Every sum runs in the order given there.
#include "query.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <limits>

#include "arithmetic/arithmetic.h"
#include "poeem/list_bounds.h"
#include "residual/tile.h"
#include "scoring.h"
#include "tables.h"

namespace poeem {
namespace {

constexpr std::int64_t kMaxRanked = 384;  // numbers that are sorted by comparing each with each

// Lists are chosen by bounds where at most one in so many is probed.
constexpr std::int64_t kFewProbes = 8;
// Bounds lie some millionths of the vectors' lengths apart, at least: within this no sum overflows.
constexpr float kLargest = 1e31F;

constexpr std::int64_t kRows = 8;  // rows summed at once: independent chains hide the latency of additions

struct Product {
  static float step(float sum, float a, float b) { return sum + a * b; }
};

struct MinusSquare {
  static float step(float sum, float a, float b) { return sum - (a - b) * (a - b); }
};

// Where nobody transposed the matrix: out[r] = sequential sum over j of the step of vector[j] and matrix[r, j], from 0.
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

void normalize(const float* query, std::int64_t dim, float* out) {
  double square = 0.0;
  for (std::int64_t j = 0; j < dim; ++j) square += static_cast<double>(query[j]) * query[j];
  const float length = static_cast<float>(std::sqrt(square));
  for (std::int64_t j = 0; j < dim; ++j) out[j] = length == 0.0F ? 0.0F : query[j] / length;
}

}  // namespace

QueryPlan::QueryPlan(const IndexView& index, const Kernel& kernel)
    : index_(index), kernel_(kernel),
      normalized_(static_cast<std::size_t>(index.metric == Metric::kCosine ? index.dim : 0)),
      rotated_(static_cast<std::size_t>(index.dim)),
      table_(static_cast<std::size_t>(index.num_subspaces * table_stride(index))),
      biases_(static_cast<std::size_t>(std::max<std::int64_t>(index.num_lists, 1))) {
  // What no codeword fills.
  if (index.num_codewords < table_stride(index)) std::fill(table_.begin(), table_.end(), std::numeric_limits<float>::quiet_NaN());
}

void QueryPlanner::add(const float* query, QueryPlan& plan) {
  queries_.push_back(query);
  plans_.push_back(&plan);
}

void QueryPlanner::choose_lists(std::int64_t num_probes, bool widens) {
  if (index_.metric == Metric::kCosine) normalize();
  rotate();
  if (!widens && choose_by_bounds(num_probes)) return;
  if (index_.num_lists > 0) compute_biases();
  for (QueryPlan* plan : plans_) {
    plan->finish_biases();
    if (index_.num_lists > 0) plan->choose_lists(num_probes);
  }
}

// False where bounds are of no use.
bool QueryPlanner::choose_by_bounds(std::int64_t num_probes) {
  if (plans_.size() > 1) return false;  // many share the exact ones
  if (index_.byte_lists == nullptr || kernel_.list_bounds == nullptr) return false;
  if (index_.metric != Metric::kInnerProduct || num_probes * kFewProbes > index_.num_lists) return false;
  QueryPlan& plan = *plans_[0];
  if (!plan.find_by_bounds(num_probes)) return false;
  make_tables();  // while what is exact about the lists comes
  plan.exact_biases();
  plan.rank_found(num_probes, plan.biases_.data());
  return true;
}

void QueryPlanner::make_tables() {
  if (has_tables_) return;
  has_tables_ = true;
  if (index_.has_distance_table()) {
    build_distance_tables();
  } else {
    build_tables();
  }
}

void QueryPlanner::normalize() {
  for (std::size_t i = 0; i < plans_.size(); ++i) {
    poeem::normalize(queries_[i], index_.dim, plans_[i]->normalized_.data());
    queries_[i] = plans_[i]->normalized_.data();
  }
}

void QueryPlanner::rotate() {
  if (index_.rotation == nullptr) {
    for (std::size_t i = 0; i < plans_.size(); ++i)
      std::copy(queries_[i], queries_[i] + index_.dim, plans_[i]->rotated_.begin());
    return;
  }
  multiply(index_.rotation, index_.rotation_t, index_.dim, index_.dim, index_.dim,
           [this](std::size_t i) { return queries_[i]; },
           [this](std::size_t i) { return plans_[i]->rotated_.data(); });
}

// to(i)[r] = sum over j of from(i)[j] * matrix[r, j] for every plan i. matrix_t: [width, num_rows], or null.
template <class From, class To>
void QueryPlanner::multiply(const float* matrix, const float* matrix_t, std::int64_t panel, std::int64_t num_rows,
                            std::int64_t width, const From& from, const To& to) {
  from_.clear();
  to_.clear();
  for (std::size_t i = 0; i < plans_.size(); ++i) {
    from_.push_back(from(i));
    to_.push_back(to(i));
  }
  if (matrix_t != nullptr) {
    kernel_.products({matrix_t, width, num_rows, panel, from_.data(), to_.data(),
                      static_cast<std::int64_t>(plans_.size())});
    return;
  }
  for (std::size_t i = 0; i < plans_.size(); ++i)
    reduce_rows<Product>(matrix, num_rows, width, from_[i], to_[i]);
}

void QueryPlanner::build_tables() {
  const std::int64_t stride = table_stride(index_), words = index_.num_codewords;
  for (std::int64_t m = 0; m < index_.num_subspaces; ++m) {
    const std::int64_t start = m * words * index_.sub_dim;
    const std::int64_t part = index_.full_width ? 0 : m * index_.sub_dim;
    multiply(index_.codebooks + start,
             index_.codebooks_t == nullptr ? nullptr : index_.codebooks_t + start, index_.panel_words(), words,
             index_.sub_dim,
             [this, part](std::size_t i) { return plans_[i]->rotated_.data() + part; },
             [this, m, stride](std::size_t i) { return plans_[i]->table_.data() + m * stride; });
    if (index_.metric != Metric::kL2) continue;
    for (float* row : to_)
      for (std::int64_t k = 0; k < words; ++k) row[k] *= 2.0F;
  }
}

void QueryPlanner::build_distance_tables() {
  const std::int64_t stride = table_stride(index_), words = index_.num_codewords;
  for (QueryPlan* plan : plans_)
    for (std::int64_t m = 0; m < index_.num_subspaces; ++m) {
      const std::int64_t start = m * words * index_.sub_dim;
      const float* part = plan->rotated_.data() + m * index_.sub_dim;
      float* row = plan->table_.data() + m * stride;
      if (index_.codebooks_t == nullptr) {
        reduce_rows<MinusSquare>(index_.codebooks + start, words, index_.sub_dim, part, row);
      } else {
        kernel_.arithmetic->minus_squares(index_.codebooks_t + start, words, index_.sub_dim, part, row);
      }
    }
}

void QueryPlanner::compute_biases() {
  multiply(index_.centroids, index_.centroids_t, kPanelRows, index_.num_lists, index_.dim,
           [this](std::size_t i) { return plans_[i]->rotated_.data(); },
           [this](std::size_t i) { return plans_[i]->biases_.data(); });
}

void QueryPlan::finish_biases() {
  if (index_.num_lists == 0) biases_[0] = 0.0F;
  if (index_.metric != Metric::kL2 || index_.has_distance_table()) return;
  float square = 0.0F;
  for (float value : rotated_) square += value * value;
  for (float& bias : biases_) bias = 2.0F * bias - square;
}

const ScratchVector<float>& QueryPlan::probed_biases() {
  if (probes_.size() == biases_.size()) return biases_;
  probed_biases_.assign(biases_.size(), -std::numeric_limits<float>::infinity());
  for (const std::int64_t list : probes_)
    probed_biases_[static_cast<std::size_t>(list)] = biases_[static_cast<std::size_t>(list)];
  return probed_biases_;
}

// Scores to probe by. NaN (after an overflow) has no place in an order; such a list comes last.
const float* QueryPlan::score_lists() {
  const std::size_t num_lists = biases_.size();
  const bool by_bias = index_.metric == Metric::kInnerProduct;
  if (by_bias && kernel_.arithmetic->extent(biases_.data(), index_.num_lists).finite) return biases_.data();
  probe_scores_.resize(num_lists);
  for (std::size_t l = 0; l < num_lists; ++l) {
    float score = biases_[l];
    if (index_.metric == Metric::kL2) score -= index_.list_norms[l];
    if (index_.metric == Metric::kCosine)
      score = index_.list_norms[l] == 0.0F ? 0.0F : score / index_.list_norms[l];
    probe_scores_[l] = std::isnan(score) ? -std::numeric_limits<float>::infinity() : score;
  }
  return probe_scores_.data();
}

void QueryPlan::choose_lists(std::int64_t num_probes) {
  const float* scores = score_lists();
  collect(scores, least_probed(scores, kernel_.arithmetic->extent(scores, index_.num_lists), num_probes));
  rank_found(num_probes, scores);
}

// found_ = lists, a few more than are probed, that may be the best; their centroids are fetched. False where these numbers are
// too near overflow.
bool QueryPlan::find_by_bounds(std::int64_t num_probes) {
  const ByteLists& lists = *index_.byte_lists;
  const auto room = static_cast<std::size_t>(lists.num_blocks * kListBlock);
  low_.resize(room), high_.resize(room), bytes_.resize(static_cast<std::size_t>(lists.num_quads * kQuad));
  ListBoundsTask task = pack_query(rotated_.data(), index_.dim, lists, bytes_.data());
  task.low = low_.data(), task.high = high_.data();
  kernel_.list_bounds(lists, task);
  const Extent lows = kernel_.arithmetic->extent(task.low, index_.num_lists);
  const Extent highs = kernel_.arithmetic->extent(task.high, index_.num_lists);
  if (!lows.finite || !highs.finite || lows.low < -kLargest || highs.high > kLargest) return false;
  collect(task.high, least_probed(task.low, lows, num_probes));
  for (const std::int32_t list : found_)
    for (std::int64_t j = 0; j < index_.dim; j += kLineFloats)
      __builtin_prefetch(index_.centroids + list * index_.dim + j);
  return true;
}

// Of the lists found; those of others are not known then.
void QueryPlan::exact_biases() {
  const auto count = static_cast<std::int64_t>(found_.size());
  for (std::int64_t first = 0; first < count; first += kRows) {
    const float* rows[kRows];
    float sums[kRows] = {};
    for (std::int64_t i = 0; i < kRows; ++i)
      rows[i] = index_.centroids + found_[static_cast<std::size_t>(std::min(first + i, count - 1))] * index_.dim;
    for (std::int64_t j = 0; j < index_.dim; ++j)
      for (std::int64_t i = 0; i < kRows; ++i) sums[i] = Product::step(sums[i], rotated_[static_cast<std::size_t>(j)], rows[i][j]);
    for (std::int64_t i = 0; i < std::min(kRows, count - first); ++i)
      biases_[static_cast<std::size_t>(found_[static_cast<std::size_t>(first + i)])] = sums[i];
  }
}

// probes_ = the best of the lists found, which are at least as many.
void QueryPlan::rank_found(std::int64_t num_probes, const float* scores) {
  const auto count = static_cast<std::int64_t>(found_.size());
  found_scores_.resize(found_.size());
  for (std::size_t i = 0; i < found_scores_.size(); ++i) found_scores_[i] = scores[found_[i]];
  ranks_.resize(found_scores_.size());
  probes_.resize(found_scores_.size());
  if (count <= kMaxRanked) {
    kernel_.arithmetic->ranks(found_scores_.data(), count, ranks_.data());
    for (std::size_t i = 0; i < ranks_.size(); ++i) probes_[static_cast<std::size_t>(ranks_[i])] = found_[i];
  } else {
    std::iota(ranks_.begin(), ranks_.end(), 0);
    const auto precedes = [this](std::int32_t i, std::int32_t j) {
      const float a = found_scores_[static_cast<std::size_t>(i)], b = found_scores_[static_cast<std::size_t>(j)];
      return (a > b) | ((a == b) & (i < j));
    };
    const auto middle = ranks_.begin() + num_probes;
    if (middle != ranks_.end()) std::nth_element(ranks_.begin(), middle, ranks_.end(), precedes);
    std::sort(ranks_.begin(), middle, precedes);
    for (std::int64_t i = 0; i < num_probes; ++i)
      probes_[static_cast<std::size_t>(i)] = found_[static_cast<std::size_t>(ranks_[static_cast<std::size_t>(i)])];
  }
  probes_.resize(static_cast<std::size_t>(num_probes));
}

// found_ = the lists whose scores are at least `least`.
void QueryPlan::collect(const float* scores, float least) {
  found_.resize(static_cast<std::size_t>(index_.num_lists));
  const std::int64_t whole = index_.num_lists / kernel_.residual->block * kernel_.residual->block;
  std::int64_t count = kernel_.residual->collect(scores, whole, least, found_.data());
  for (std::int64_t l = whole; l < index_.num_lists; ++l)
    if (scores[l] >= least) found_[static_cast<std::size_t>(count++)] = static_cast<std::int32_t>(l);
  found_.resize(static_cast<std::size_t>(count));
}

// A score that at least num_probes lists reach, and where it can be found quickly, few more.
float QueryPlan::least_probed(const float* scores, const Extent& extent, std::int64_t num_probes) const {
  constexpr int kMaxHalvings = 16;
  const std::int64_t num_lists = index_.num_lists;
  auto [low, high, finite] = extent;
  for (int i = 0; finite && num_probes < num_lists && i < kMaxHalvings; ++i) {
    const float middle = low + (high - low) / 2;
    const std::int64_t count = kernel_.arithmetic->count_at_least(scores, num_lists, middle);
    (count >= num_probes ? low : high) = middle;
    if (count >= num_probes && count <= num_probes + num_probes / 8 + 4) break;
  }
  return low;
}

}  // namespace poeem
