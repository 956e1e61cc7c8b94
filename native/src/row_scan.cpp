#include "row_scan.h"

#include <algorithm>
#include <cmath>

#include "scoring.h"

namespace poeem {
namespace {

constexpr std::int64_t kMinSample = 256;

// After so many survivors of a unit, scoring all of it is cheaper than going on one by one.
constexpr int kManySurvivors = 16;

// Bits of the items of a unit that lie in [begin, end).
std::uint64_t range_mask(std::int64_t unit, std::int64_t begin, std::int64_t end) {
  std::uint64_t mask = ~std::uint64_t{0};
  const std::int64_t first = unit * kUnitItems;
  if (begin > first) mask <<= begin - first;
  if (end < first + kUnitItems) mask &= ~std::uint64_t{0} >> (first + kUnitItems - end);
  return mask;
}

BoundFunction bound_function(const IndexView& index, const Kernel& kernel) {
  if (index.num_subspaces > kMaxBoundSubspaces) return nullptr;
  if (index.width == CodeWidth::kByte) return kernel.bound_bytes;
  return index.width == CodeWidth::kFourBit ? kernel.bound_nibbles : nullptr;
}

}  // namespace

RowScan::RowScan(const IndexView& index, const Kernel& kernel, std::int64_t capacity, bool sparse)
    : index_(index), items_(&index), wanted_(nullptr),
      bound_(sparse ? nullptr : bound_function(index, kernel)),
      capacity_(capacity), sample_(std::max(kMinSample, 3 * capacity)), plan_(index) {}

std::uint64_t RowScan::wanted_items(std::int64_t unit, std::int64_t begin, std::int64_t end) const {
  const std::uint64_t mask = range_mask(unit, begin, end);
  return wanted_ == nullptr ? mask : mask & wanted_[unit];
}

void RowScan::prepare(const float* query, std::int64_t num_probes) {
  plan_.prepare(query, num_probes);
  best_.reset(capacity_);
  bounded_ = tried_ = false;
  num_seen_ = 0;
}

void RowScan::scan(const Segment& segment, std::int64_t begin, std::int64_t end, float bias) {
  items_ = segment.view;
  wanted_ = segment.wanted;
  while (bound_ != nullptr && !tried_ && begin < end) {
    // Up to the end of a unit, so that the bounds start with a whole one.
    std::int64_t middle = begin + std::max<std::int64_t>(sample_ - num_seen_, 1);
    middle = std::min(end, (middle + kUnitItems - 1) / kUnitItems * kUnitItems);
    scan_in_float(begin, middle, bias);
    begin = middle;
    if (num_seen_ >= sample_) try_bounds();
  }
  if (bounded_) {
    scan_by_bounds(begin, end, bias);
  } else {
    scan_in_float(begin, end, bias);
  }
}

void RowScan::try_bounds() {
  best_.tighten();
  tried_ = true;
  float max_bias = 0.0F, max_abs_bias = 0.0F;
  if (index_.num_lists > 0) {
    max_bias = plan_.bias(plan_.probes()[0]);
    for (std::int64_t list : plan_.probes()) {
      max_bias = std::max(max_bias, plan_.bias(list));
      max_abs_bias = std::max(max_abs_bias, std::abs(plan_.bias(list)));
      if (!std::isfinite(plan_.bias(list))) return;
    }
  }
  bounded_ = std::isfinite(best_.threshold()) &&
             bounds_.build(index_, plan_.table(), max_bias, max_abs_bias, best_.threshold());
}

void RowScan::scan_in_float(std::int64_t begin, std::int64_t end, float bias) {
  if (begin >= end) return;
  for (std::int64_t unit = begin / kUnitItems; unit <= (end - 1) / kUnitItems; ++unit) {
    const std::uint64_t mask = wanted_items(unit, begin, end);
    const int count = __builtin_popcountll(mask);
    if (count > kManySurvivors) {
      take_unit(unit, mask, bias);
    } else {
      take_survivors(unit, mask, bias);
    }
    num_seen_ += count;
  }
}

void RowScan::take_unit(std::int64_t unit, std::uint64_t mask, float bias) {
  float scores[kUnitItems];
  score_unit(*items_, unit, plan_.table(), bias, scores);
  std::uint64_t passing = 0;
  const float threshold = best_.threshold();
  for (int i = 0; i < kUnitItems; ++i)  // NaN never passes
    passing |= static_cast<std::uint64_t>(scores[i] >= threshold) << i;
  for (passing &= mask; passing != 0; passing &= passing - 1) {
    const int i = __builtin_ctzll(passing);
    best_.offer({scores[i], items_->id_at(unit * kUnitItems + i)});
  }
}

void RowScan::take_survivors(std::int64_t unit, std::uint64_t mask, float bias) {
  int num_taken = 0;
  for (; mask != 0; mask &= mask - 1) {
    if (++num_taken > kManySurvivors) return take_unit(unit, mask, bias);
    const std::int64_t position = unit * kUnitItems + __builtin_ctzll(mask);
    const float score = score_item(*items_, position, plan_.table(), bias);
    if (score >= best_.threshold()) best_.offer({score, items_->id_at(position)});
  }
}

void RowScan::scan_by_bounds(std::int64_t begin, std::int64_t end, float bias) {
  if (begin >= end) return;
  std::int64_t last = (end + kUnitItems - 1) / kUnitItems;
  if (items_->uses_norms() && last * kUnitItems > items_->num_items) {
    // Norms end with the items, in the middle of this unit.
    --last;
    take_unit(last, wanted_items(last, begin, end), bias);
  }
  BoundTask task{};
  task.codes = items_->block(0);
  task.num_columns = items_->columns();
  task.norms = items_->uses_norms() ? items_->norms : nullptr;
  for (std::int64_t unit = begin / kUnitItems; unit < last;) {
    best_.tighten_if_worth();
    if (!bounds_.aim(index_, bias, best_.threshold(), task)) break;
    // As long as few were seen the threshold rises fast, so look at it often.
    const std::int64_t patience = std::max<std::int64_t>(num_seen_ / (2 * kUnitItems), 4);
    task.begin = unit;
    task.end = std::min({last, unit + patience, unit + kMaxUnits});
    bound_(task, masks_);
    for (; unit < task.end; ++unit) {
      std::uint64_t mask = masks_[unit - task.begin];
      if (mask == 0) continue;
      mask &= wanted_items(unit, begin, end);
      if (mask != 0) take_survivors(unit, mask, bias);
    }
    num_seen_ += (task.end - task.begin) * kUnitItems;
  }
}

}  // namespace poeem
