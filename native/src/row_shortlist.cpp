// What a RowScan does with the first items: those that may be among the best by whole sums, then their scores.
#include <algorithm>
#include <cmath>

#include "row_scan.h"

namespace poeem {
namespace {

// Of codes to come, fetched while so many units as are listed at once are summed up.
constexpr int kListLines = 192;

}  // namespace

// Whether all biases are finite.
bool RowScan::find_max_bias() {
  const bool lists = index_.num_lists > 0;
  max_bias_ = plan_.bias(lists ? plan_.probes()[0] : 0);
  max_abs_bias_ = std::abs(max_bias_);
  if (!std::isfinite(max_bias_)) return false;
  for (std::size_t i = 0; lists && i < plan_.probes().size(); ++i) {
    const float bias = plan_.bias(plan_.probes()[i]);
    max_bias_ = std::max(max_bias_, bias);
    max_abs_bias_ = std::max(max_abs_bias_, std::abs(bias));
    if (!std::isfinite(bias)) return false;
  }
  return true;
}

bool RowScan::start_shortlist() {
  if (!find_max_bias() || !bounds_.measure(index_, plan_.table(), max_abs_bias_)) return false;
  bounds_.build_evenly(index_, plan_.table());
  shortlist_.reset(capacity_, bounds_.sums_apart(index_), BoundTable::kEvenShortfall * index_.num_subspaces);
  return true;
}

void RowScan::list_rows(std::int64_t begin, std::int64_t end, float bias) {
  const std::int64_t share = share_of(bias), last = (end + kUnitItems - 1) / kUnitItems;
  std::uint16_t sums[Shortlist::kUnits * kUnitItems];
  std::uint64_t wanted[Shortlist::kUnits];
  BoundTask task{};
  point(task);
  bounds_.aim_evenly(task);
  task.last = last;
  for (task.begin = begin / kUnitItems; task.begin < last; task.begin = task.end) {
    if (share > shortlist_.limit()) return;
    const std::int64_t num_units = std::min(last - task.begin, Shortlist::kUnits);
    task.end = task.begin + num_units;
    task.limit = static_cast<std::uint16_t>(shortlist_.limit() - share);
    ahead_.fetch(kListLines);
    sum_(task, sums, masks_);
    std::fill(wanted, wanted + num_units, ~std::uint64_t{0});
    if (wanted_ != nullptr) std::copy(wanted_ + task.begin, wanted_ + task.end, wanted);
    wanted[0] = wanted_items(task.begin, begin, end);
    wanted[num_units - 1] = wanted_items(task.end - 1, begin, end);
    num_seen_ += num_units * kUnitItems;
    shortlist_.add(sums, wanted, masks_, num_units, first_place_ + task.begin * kUnitItems, share, bias);
  }
}

// From here on items are taken without it.
void RowScan::score_shortlist() {
  if (!listing_) return;
  listing_ = false;
  const std::int64_t block_bytes = index_.block_bytes();
  const std::uint8_t* codes = items_->block(0);
  const auto take = [&](std::int64_t place, float bias) {
    if ((place & ~TopK::kPositions) != first_place_) {
      first_place_ = place & ~TopK::kPositions;
      items_ = segments_[static_cast<std::size_t>(place >> TopK::kPositionBits)].view;
      codes = items_->block(0);
    }
    const std::int64_t position = place & TopK::kPositions;
    put(codes + position / kBlockItems * block_bytes + position % kBlockItems, place, bias, 0.0F);
  };
  shortlist_.settle();
  // First as many as are wanted: their scores say which of the others need one.
  shortlist_.take(-1, shortlist_.least(), take);
  score_waiting();
  best_.tighten();
  if (BoundTable::is_moderate(best_.threshold()))
    shortlist_.take(shortlist_.least(), std::min(shortlist_.limit(), bounds_.largest_sum(max_bias_, best_.threshold())), take);
}

}  // namespace poeem
