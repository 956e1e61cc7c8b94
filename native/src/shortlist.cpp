#include "shortlist.h"

#include <algorithm>

namespace poeem {
namespace {

constexpr std::uint16_t kNotWanted = 65535;

}  // namespace

void Shortlist::reset(std::int64_t capacity, std::int64_t apart, std::int64_t most) {
  capacity_ = static_cast<std::size_t>(capacity);
  apart_ = apart;
  most_ = most;
  least_ = limit_ = kNoLimit;
  size_ = 0;
  worth_ = capacity_;
  runs_.clear();
}

void Shortlist::make_room(std::size_t count) {
  const std::size_t wanted = size_ + count + Arithmetic::kShortLanes;
  if (sums_.size() >= wanted) return;
  sums_.resize(wanted + wanted / 2);
  numbers_.resize(sums_.size());
}

void Shortlist::add(std::uint16_t* sums, const std::uint64_t* wanted, const std::uint64_t* within, std::int64_t num_units,
                    std::int64_t first_place, std::int64_t base, float bias) {
  runs_.push_back({first_place, bias});
  if (!full()) {
    add_first(sums, wanted, num_units, base);
  } else {
    for (std::int64_t u = 0; u < num_units; ++u) add_unit(sums, u, within[u] & wanted[u], base);
  }
  if (size_ > worth_) tighten();
}

void Shortlist::add_unit(const std::uint16_t* sums, std::int64_t unit, std::uint64_t mask, std::int64_t base) {
  if (mask == 0) return;
  make_room(static_cast<std::size_t>(kUnitItems));
  const std::int64_t run = (static_cast<std::int64_t>(runs_.size()) - 1) * kRunItems;
  for (; mask != 0; mask &= mask - 1) {
    const std::int64_t i = unit * kUnitItems + __builtin_ctzll(mask);
    sums_[size_] = static_cast<std::uint16_t>(sums[i] + base);
    numbers_[size_++] = static_cast<std::uint32_t>(run + i);
  }
}

// As long as nothing is known of the best.
void Shortlist::add_first(std::uint16_t* sums, const std::uint64_t* wanted, std::int64_t num_units, std::int64_t base) {
  const std::int64_t count = num_units * kUnitItems;
  std::size_t num_wanted = 0;
  for (std::int64_t u = 0; u < num_units; ++u) {
    num_wanted += static_cast<std::size_t>(kUnitItems);
    for (std::uint64_t mask = ~wanted[u]; mask != 0; mask &= mask - 1, --num_wanted)
      sums[u * kUnitItems + __builtin_ctzll(mask)] = kNotWanted;
  }
  if (num_wanted >= capacity_) limit_by(least_of(sums, count, most_, most_) + base);
  std::uint64_t within[kUnits];
  arithmetic_.within(sums, num_units, static_cast<std::uint16_t>(std::min(limit_ - base, kNoLimit - 1)), within);
  for (std::int64_t u = 0; u < num_units; ++u) add_unit(sums, u, within[u], base);
}

void Shortlist::tighten() {
  const std::int64_t count = (static_cast<std::int64_t>(size_) + Arithmetic::kShortLanes - 1) & -Arithmetic::kShortLanes;
  std::fill(sums_.begin() + static_cast<std::ptrdiff_t>(size_), sums_.begin() + count, kNotWanted);
  limit_by(least_of(sums_.data(), count, std::min(least_, kNoLimit - 1), full() ? kFirstStep : kNoLimit));
  std::size_t kept = 0;
  for (std::size_t i = 0; i < size_; ++i) {
    const std::uint16_t sum = sums_[i];
    sums_[kept] = sum;
    numbers_[kept] = numbers_[i];
    kept += sum <= limit_ ? 1 : 0;
  }
  size_ = kept;
  worth_ = size_ + capacity_ / 2;
}

// A sum that at least as many as are wanted reach, and few more. Down from `high`, which so many reach: first by `step`, then by
// twice as much each time, at most by half of what may be left.
std::int64_t Shortlist::least_of(const std::uint16_t* sums, std::int64_t count, std::int64_t high, std::int64_t step) const {
  for (std::int64_t low = -1; high - low > 1; step *= 2) {
    const std::int64_t middle = std::max(high - step, low + (high - low) / 2);
    const auto found = static_cast<std::size_t>(arithmetic_.count_at_most(sums, count, static_cast<std::uint16_t>(middle)));
    (found >= capacity_ ? high : low) = middle;
    if (found >= capacity_ && found <= capacity_ + capacity_ / 16) break;
  }
  return high;
}

// As many as are wanted have at most this sum.
void Shortlist::limit_by(std::int64_t sum) {
  if (sum >= kMostShare || sum >= least_) return;
  least_ = sum;
  limit_ = std::min(sum + apart_, kNoLimit - 1);
}

}  // namespace poeem
