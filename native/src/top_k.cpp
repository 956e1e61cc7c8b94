#include "poeem/top_k.h"

#include <algorithm>
#include <limits>

#include "arithmetic/arithmetic.h"
#include "poeem/kernel.h"
#include "poeem/search.h"

namespace poeem {
namespace {

constexpr int kMaxHalvings = 24;

// Up to so many, comparing each with each, a register at a time, is faster than a sort, which guesses every other
// comparison wrong.
constexpr std::size_t kMaxRanked = 384;

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
  size_ = 0;
}

void TopK::grow(std::size_t size) {
  const std::size_t room = std::max(size, std::min(2 * scores_.size(), limit_)) + 64;
  scores_.resize(room);
  places_.resize(room);
}

std::int64_t TopK::id_of(std::int64_t place) const {
  const IndexView& items = *segments_[static_cast<std::size_t>(place >> kPositionBits)].view;
  return items.id_at(place & kPositions);
}

// Halve the interval that the k-th best score is in until about k candidates are left above its lower end.
void TopK::tighten() {
  if (size_ < capacity_) return;
  const auto size = static_cast<std::int64_t>(size_);
  auto [low, high, finite] = kernel_.arithmetic->extent(scores_.data(), size);  // at least k reach `low`
  for (int i = 0; i < kMaxHalvings; ++i) {
    const float middle = low + (high - low) / 2;
    if (!(middle > low && middle < high)) break;  // also where the middle overflows
    const auto count = static_cast<std::size_t>(kernel_.arithmetic->count_at_least(scores_.data(), size, middle));
    (count >= capacity_ ? low : high) = middle;
    if (count >= capacity_ && count <= enough_) break;
  }
  drop_below(low);
  if (size_ > enough_) keep_exactly();  // equal scores, or far apart
}

void TopK::drop_below(float threshold) {
  threshold_ = threshold;
  size_ = static_cast<std::size_t>(
      kernel_.arithmetic->keep(scores_.data(), places_.data(), static_cast<std::int64_t>(size_), threshold));
}

// Of equal scores too only those of the smallest ids stay.
void TopK::keep_exactly() {
  ranks_.resize(size_);
  for (std::size_t i = 0; i < size_; ++i) ranks_[i] = static_cast<std::int32_t>(i);
  const auto precedes = [this](std::int32_t i, std::int32_t j) {
    const auto a = static_cast<std::size_t>(i), b = static_cast<std::size_t>(j);
    if (scores_[a] != scores_[b]) return scores_[a] > scores_[b];
    return id_of(places_[a]) < id_of(places_[b]);
  };
  const auto end = ranks_.begin() + static_cast<std::ptrdiff_t>(capacity_);
  std::nth_element(ranks_.begin(), end - 1, ranks_.end(), precedes);
  threshold_ = scores_[static_cast<std::size_t>(end[-1])];
  std::sort(ranks_.begin(), end);  // rising, so that nothing is overwritten before it is read
  for (std::size_t i = 0; i < capacity_; ++i) {
    scores_[i] = scores_[static_cast<std::size_t>(ranks_[i])];
    places_[i] = places_[static_cast<std::size_t>(ranks_[i])];
  }
  size_ = capacity_;
}

const ScratchVector<Candidate>& TopK::sorted() {
  if (size_ > enough_ && size_ <= kMaxRanked) tighten();  // ranking takes as long as the square of what is ranked
  sorted_.resize(size_);
  if (size_ <= kMaxRanked) {
    sort_by_ranks();
  } else {
    sort_exactly();
  }
  return sorted_;
}

// Ids lie far apart: let them come while ranks are counted.
void TopK::fetch_ids() const {
  for (std::size_t i = 0; i < size_; ++i) {
    const std::int64_t position = places_[i] & kPositions;
    const IndexView& items = *segments_[static_cast<std::size_t>(places_[i] >> kPositionBits)].view;
    if (items.ids32 != nullptr) __builtin_prefetch(items.ids32 + position);
    if (items.ids64 != nullptr) __builtin_prefetch(items.ids64 + position);
  }
}

void TopK::sort_by_ranks() {
  fetch_ids();
  ranks_.resize(size_);
  kernel_.arithmetic->ranks(scores_.data(), static_cast<std::int64_t>(size_), ranks_.data());
  for (std::size_t i = 0; i < size_; ++i)
    sorted_[static_cast<std::size_t>(ranks_[i])] = {scores_[i], id_of(places_[i])};
  for (std::size_t begin = 0; begin < std::min(size_, capacity_);) {  // ties by id
    std::size_t end = begin + 1;
    while (end < size_ && sorted_[end].score == sorted_[begin].score) ++end;
    if (end > begin + 1)
      std::sort(sorted_.begin() + static_cast<std::ptrdiff_t>(begin),
                sorted_.begin() + static_cast<std::ptrdiff_t>(end), Better{});
    begin = end;
  }
  sorted_.resize(std::min(size_, capacity_));
}

void TopK::sort_exactly() {
  for (std::size_t i = 0; i < size_; ++i) sorted_[i] = {scores_[i], id_of(places_[i])};
  if (size_ > capacity_) {
    std::nth_element(sorted_.begin(), sorted_.begin() + static_cast<std::ptrdiff_t>(capacity_),
                     sorted_.end(), Better{});
    sorted_.resize(capacity_);
  }
  std::sort(sorted_.begin(), sorted_.end(), Better{});
}

}  // namespace poeem
