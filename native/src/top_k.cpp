#include "poeem/top_k.h"

#include <algorithm>
#include <limits>

#include "arithmetic/arithmetic.h"

namespace poeem {
namespace {

constexpr int kMaxHalvings = 24;

// A type of its own, so that the algorithms below have the comparison inline.
struct Better {
  bool operator()(const Candidate& a, const Candidate& b) const { return better(a, b); }
};

}  // namespace

void TopK::reset(std::int64_t capacity) {
  capacity_ = static_cast<std::size_t>(capacity);
  enough_ = capacity_ + capacity_ / 8;
  worth_ = capacity_ + capacity_ / 4 + 8;
  limit_ = 2 * capacity_ + 64;
  threshold_ = -std::numeric_limits<float>::infinity();
  scores_.clear();
  ids_.clear();
}

// Halve the interval that the k-th best score is in until about k candidates are left above its lower end.
void TopK::tighten() {
  if (scores_.size() < capacity_) return;
  const auto size = static_cast<std::int64_t>(scores_.size());
  auto [low, high, finite] = arithmetic_.extent(scores_.data(), size);  // at least k reach `low`
  for (int i = 0; i < kMaxHalvings; ++i) {
    const float middle = low + (high - low) / 2;
    if (!(middle > low && middle < high)) break;  // also where the middle overflows
    const auto count = static_cast<std::size_t>(arithmetic_.count_at_least(scores_.data(), size, middle));
    (count >= capacity_ ? low : high) = middle;
    if (count >= capacity_ && count <= enough_) break;
  }
  drop_below(low);
  if (scores_.size() > enough_) keep_exactly();  // equal scores, or far apart
}

void TopK::drop_below(float threshold) {
  threshold_ = threshold;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < scores_.size(); ++i) {
    scores_[kept] = scores_[i];
    ids_[kept] = ids_[i];
    kept += scores_[i] >= threshold ? 1 : 0;
  }
  scores_.resize(kept);
  ids_.resize(kept);
}

void TopK::keep_exactly() {
  sorted();
  if (sorted_.size() < capacity_) return;
  threshold_ = sorted_.back().score;
  scores_.clear();
  ids_.clear();
  for (const Candidate& candidate : sorted_) {
    scores_.push_back(candidate.score);
    ids_.push_back(candidate.id);
  }
}

const std::vector<Candidate>& TopK::sorted() {
  sorted_.resize(scores_.size());
  for (std::size_t i = 0; i < scores_.size(); ++i) sorted_[i] = {scores_[i], ids_[i]};
  if (sorted_.size() > capacity_) {
    std::nth_element(sorted_.begin(), sorted_.begin() + static_cast<std::ptrdiff_t>(capacity_),
                     sorted_.end(), Better{});
    sorted_.resize(capacity_);
  }
  std::sort(sorted_.begin(), sorted_.end(), Better{});
  return sorted_;
}

}  // namespace poeem
