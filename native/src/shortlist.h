// The first items of a scan, before any score is known: sums of evenly spaced shortfalls (kernels/bounds.h), none of them
// saturated, say of each item how far its score lies below the best there could be, give or take a few steps. So the k-th
// least sum and those few steps bound what the k best can have, and little more than k items are ever scored in float.
#pragma once

#include <cstdint>

#include "arithmetic/arithmetic.h"
#include "poeem/index_view.h"
#include "poeem/scratch.h"

namespace poeem {

class Shortlist {
 public:
  static constexpr std::int64_t kUnits = 32;  // units that are added at once

  explicit Shortlist(const Arithmetic& arithmetic) : arithmetic_(arithmetic) {}

  // Start anew. apart: an item whose sum is more than so much above another's has a lower score. most: no sum, without
  // the list's share, is above it.
  void reset(std::int64_t capacity, std::int64_t apart, std::int64_t most);

  // Items with sums above it, the list's share included, are not among the best of those added.
  std::int64_t limit() const { return limit_; }

  // Whether sums are told apart yet.
  bool full() const { return limit_ < kNoLimit; }

  // Take in those of [num_units * 64] items that may be among the best. first_place: of the first item (top_k.h). sums:
  // [num_units, 64], without the list's share `base`, may be overwritten; wanted: [num_units], bits of those that count; within:
  // [num_units], bits of sums within limit() - base, where full().
  void add(std::uint16_t* sums, const std::uint64_t* wanted, const std::uint64_t* within, std::int64_t num_units,
           std::int64_t first_place, std::int64_t base, float bias);

  // Drop what is above the limit. After the last `add`.
  void settle() {
    if (size_ > capacity_) tighten();
  }

  // As many as are wanted, if there are, have at most this sum.
  std::int64_t least() const { return least_; }

  // take(place, bias): those of the items with sums in (above, most].
  template <class Take>
  void take(std::int64_t above, std::int64_t most, const Take& take) {
    std::size_t count = 0;
    chosen_.resize(size_);
    for (std::size_t i = 0; i < size_; ++i) {  // without branches, which nobody could guess
      chosen_[count] = numbers_[i];
      count += static_cast<std::size_t>((sums_[i] > above) & (sums_[i] <= most));
    }
    for (std::size_t i = 0; i < count; ++i) {
      const Run& run = runs_[static_cast<std::size_t>(chosen_[i] / kRunItems)];
      take(run.first_place + chosen_[i] % kRunItems, run.bias);
    }
  }

  // A list's share in the sums of its items: how far its bias lies below the best one, in steps.
  static std::int64_t share(double below, double step) {
    return below < static_cast<double>(kMostShare) * step ? static_cast<std::int64_t>(below / step) : kMostShare;
  }

 private:
  static constexpr std::int64_t kNoLimit = 65535;
  static constexpr std::int64_t kMostShare = 32767;  // from here on it says that it is at least so much

  static constexpr std::int64_t kRunItems = kUnits * kUnitItems;

  // Items that were added at once.
  struct Run {
    std::int64_t first_place;
    float bias;
  };

  void add_first(std::uint16_t* sums, const std::uint64_t* wanted, std::int64_t num_units, std::int64_t base);
  void add_unit(const std::uint16_t* sums, std::int64_t unit, std::uint64_t mask, std::int64_t base);
  void make_room(std::size_t count);
  void tighten();
  std::int64_t least_of(const std::uint16_t* sums, std::int64_t count, std::int64_t high, std::int64_t step) const;
  void limit_by(std::int64_t sum);

  static constexpr std::int64_t kFirstStep = 8;

  const Arithmetic& arithmetic_;
  std::size_t capacity_ = 0;
  std::int64_t apart_ = 0, most_ = 0;
  std::int64_t least_ = kNoLimit;        // as many as are wanted have at most this sum
  std::int64_t limit_ = kNoLimit;
  std::size_t size_ = 0;
  std::size_t worth_ = 0;                // above so many the limit may fall by much
  ScratchVector<Run> runs_;
  ScratchVector<std::uint16_t> sums_;      // with their lists' shares; room for a register more than there are
  ScratchVector<std::uint32_t> numbers_;   // run * kRunItems + number in it
  ScratchVector<std::uint32_t> chosen_;
};

}  // namespace poeem
