#include "row_scan.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace poeem {
namespace {

constexpr std::int64_t kMinSample = 256;

// Items that are looked at for a shortlist, which takes longer than by bounds and leaves less to be scored: so many where
// bounds are one addition of bytes, so many where they are several, which are less sharp; and so many times k, which must
// not be much.
constexpr std::int64_t kListed = 4096;
constexpr std::int64_t kListedOfGroups = 32768;
constexpr std::int64_t kListedTimes = 32;
constexpr std::int64_t kMostListed = 1024;

// While a unit of the sample is scored, and while a few survivors are: so many lines of codes to come are fetched, about
// what the memory brings meanwhile.
constexpr int kUnitLines = 64;
constexpr int kSurvivorLines = 32;
constexpr std::int64_t kFewSurvivors = 8;

// Bounds are built anew, by a better threshold, whenever so many times more items were seen.
constexpr std::int64_t kRebuild = 4;

// Where more items of a unit are wanted, scoring all of it in its order is cheaper than picking them.
constexpr int kManyWanted = 16;

constexpr std::int64_t kLineBytes = 64;

// A less sharp look is tried where one of so many items passes the one before, and given up where it lets one of so many
// pass: scoring that one costs what the shorter look at so many saves.
constexpr std::int64_t kNextFrom = 150;
constexpr std::int64_t kGiveUp = 32;
constexpr std::int64_t kTrialUnits = 32;  // so few units are looked at first
constexpr std::int64_t kNever = 1 << 20;  // more items than a task has

// Bits of the items of a unit that lie in [begin, end).
std::uint64_t range_mask(std::int64_t unit, std::int64_t begin, std::int64_t end) {
  std::uint64_t mask = ~std::uint64_t{0};
  const std::int64_t first = unit * kUnitItems;
  if (begin > first) mask <<= begin - first;
  if (end < first + kUnitItems) mask &= ~std::uint64_t{0} >> (first + kUnitItems - end);
  return mask;
}

std::int64_t whole_units(std::int64_t items) { return (items + kUnitItems - 1) / kUnitItems * kUnitItems; }

}  // namespace

RowScan::RowScan(const std::vector<Segment>& segments, const Kernel& kernel, std::int64_t capacity, bool sparse)
    : segments_(segments), index_(*segments[0].view), items_(&index_), wanted_(nullptr),
      capacity_(capacity), sample_(std::max(kMinSample, 3 * capacity)),
      listed_(std::max(BoundTable::in_one_group(index_) ? kListed : kListedOfGroups, kListedTimes * capacity)), plan_(index_, kernel), bounds_(*kernel.arithmetic),
      best_(segments, kernel), shortlist_(*kernel.arithmetic) {
  if (sparse || index_.num_subspaces > kMaxBoundSubspaces) return;
  fetch_ = best_fetch(index_.num_lists > 0);
  if (index_.width == CodeWidth::kByte) {
    std::copy(kernel.bound_bytes, kernel.bound_bytes + kNumLooks, bound_);
    std::copy(kernel.bound_bytes_of_two, kernel.bound_bytes_of_two + kNumLooks, bound_two_);
    // Every code must have a score.
    if (!index_.uses_norms() && index_.num_codewords == 256 && capacity <= kMostListed) sum_ = kernel.sum_bytes;
  } else if (index_.width == CodeWidth::kFourBit) {
    bound_[kCodewords] = kernel.bound_nibbles;
  }
}

std::uint64_t RowScan::wanted_items(std::int64_t unit, std::int64_t begin, std::int64_t end) const {
  const std::uint64_t mask = range_mask(unit, begin, end);
  return wanted_ == nullptr ? mask : mask & wanted_[unit];
}

void RowScan::reset() {
  best_.reset(capacity_);
  bounded_ = tried_ = aimed_ = trial_ = false;
  look_ = kCodewords;
  std::fill(next_from_, next_from_ + kNumLooks, kNextFrom);
  passed_ = true;
  num_seen_ = num_waiting_ = num_scored_ = 0;
  listing_ = sum_ != nullptr && start_shortlist();
}

void RowScan::look_at(const Segment& segment) {
  items_ = segment.view;
  wanted_ = segment.wanted;
  first_place_ = (&segment - segments_.data()) << TopK::kPositionBits;
}

void RowScan::scan(const Segment& segment, std::int64_t begin, std::int64_t end, float bias) {
  look_at(segment);
  while (listing_ && begin < end) {
    const std::int64_t step = std::max(listed_ - num_seen_, Shortlist::kUnits * kUnitItems);
    const std::int64_t middle = std::min(end, whole_units(begin + step));
    list_rows(begin, middle, bias);
    begin = middle;
    if (num_seen_ < listed_ || !shortlist_.full()) continue;
    score_shortlist();
    look_at(segment);
    try_bounds(begin);
  }
  while (bound_[kCodewords] != nullptr && !tried_ && begin < end) {
    // Up to the end of a unit, so that the bounds start with a whole one.
    const std::int64_t middle = std::min(end, whole_units(begin + std::max<std::int64_t>(sample_ - num_seen_, 1)));
    scan_in_float(begin, middle, bias);
    begin = middle;
    if (num_seen_ >= sample_) try_bounds(begin);
  }
  if (bounded_) {
    scan_by_bounds(begin, end, bias);
  } else {
    scan_in_float(begin, end, bias);
  }
}

void RowScan::scan_two(RowScan& a, RowScan& b, const Segment& segment, std::int64_t begin, std::int64_t end) {
  const float bias_a = a.plan_.bias(0), bias_b = b.plan_.bias(0);  // there are no lists
  std::int64_t unit = begin / kUnitItems;
  const std::int64_t last = end / kBlockItems * (kBlockItems / kUnitItems);
  if (a.bound_two_[kCodewords] != nullptr && a.bounded_ && b.bounded_ && begin % kBlockItems == 0) {
    a.look_at(segment), b.look_at(segment);
    BoundTask task_a{}, task_b{};
    while (unit < last && a.aim(unit, last, bias_a, task_a) && b.aim(unit, last, bias_b, task_b)) {
      task_a.end = task_b.end = std::min(task_a.end, task_b.end);
      a.fetch_wanted(task_a);
      if (task_a.look == task_b.look) {
        a.bound_two_[task_a.look](task_a, task_b, a.masks_, b.masks_);
      } else {
        a.bound(task_a), b.bound(task_b);
      }
      a.take_masks(task_a, begin, end, bias_a);
      b.take_masks(task_b, begin, end, bias_b);
      unit = task_a.end;
    }
  }
  a.scan(segment, unit * kUnitItems, end, bias_a);
  b.scan(segment, unit * kUnitItems, end, bias_b);
}

void RowScan::try_bounds(std::int64_t position) {
  score_waiting();
  best_.tighten();
  tried_ = true;
  bounded_ = std::isfinite(best_.threshold()) && BoundTable::is_moderate(best_.threshold()) && find_max_bias() &&
             bounds_.measure(index_, plan_.table(), max_abs_bias_);
  if (bounded_) build_bounds(position);
}

// position: what is scanned next; the norms there stand for those to come.
void RowScan::build_bounds(std::int64_t position) {
  build_at_ = kRebuild * num_seen_;
  aimed_ = false;
  double wanted = static_cast<double>(best_.threshold());
  if (items_->uses_norms()) {
    float least = std::numeric_limits<float>::infinity();
    const std::int64_t first = std::min(position, items_->num_items - 1);
    for (std::int64_t i = first; i < std::min(first + kUnitItems, items_->num_items); ++i)
      if (items_->norms[i] > 0.0F) least = std::min(least, items_->norms[i]);
    if (std::isinf(least)) least = 0.0F;
    wanted = index_.metric == Metric::kCosine ? wanted * static_cast<double>(least)
                                              : wanted + static_cast<double>(least);
  }
  bounds_.build(index_, plan_.table(), wanted - static_cast<double>(max_bias_));
}

void RowScan::scan_in_float(std::int64_t begin, std::int64_t end, float bias) {
  if (begin >= end) return;
  for (std::int64_t unit = begin / kUnitItems; unit <= (end - 1) / kUnitItems; ++unit) {
    if (wanted_ != nullptr && wanted_[unit] == 0) continue;
    const std::uint64_t mask = wanted_items(unit, begin, end);
    const int count = __builtin_popcountll(mask);
    if (count > kManyWanted) {
      take_unit(unit, mask, bias);
    } else {
      take_some(unit, mask, bias);
    }
    num_seen_ += count;
  }
  score_eights();
}

void RowScan::take_unit(std::int64_t unit, std::uint64_t mask, float bias) {
  float scores[kUnitItems];
  num_scored_ += __builtin_popcountll(mask);
  ahead_.fetch(kUnitLines);
  score_unit(*items_, unit, plan_.table(), bias, scores);
  const std::int64_t first = first_place_ + unit * kUnitItems;
  best_.offer(scores, kUnitItems, [first](std::int64_t i) { return first + i; },
              [mask](std::int64_t i) { return (mask >> i) & 1; });
}

// Returns how many.
std::int64_t RowScan::take_some(std::int64_t unit, std::uint64_t mask, float bias) {
  std::int64_t count = 0;
  for (; mask != 0; mask &= mask - 1, ++count) take_one(unit * kUnitItems + __builtin_ctzll(mask), bias);
  return count;
}

void RowScan::take_one(std::int64_t position, float bias) {
  put(items_->codes_of(position), first_place_ + position, bias, items_->uses_norms() ? items_->norms[position] : 0.0F);
}

// list: not above that of any of them. Returns how many there were.
std::int64_t RowScan::take_of_lists(std::int64_t unit, std::uint64_t mask, std::int64_t list, const float* biases) {
  std::int64_t count = 0;
  for (; mask != 0; mask &= mask - 1, ++count) {
    const std::int64_t position = unit * kUnitItems + __builtin_ctzll(mask);
    while (items_->list_offsets[list + 1] <= position) ++list;
    if (std::isfinite(biases[list]) && !is_hopeless(biases[list])) take_one(position, biases[list]);
  }
  return count;
}

void RowScan::score_waiting() { score_first(num_waiting_); }

void RowScan::score_first(std::int64_t count) {
  if (count == 0) return;
  num_scored_ += count;
  float scores[kMaxWaiting];
  for (std::int64_t first = 0; first < count; first += kFewSurvivors) {
    ahead_.fetch(kSurvivorLines);
    score_items(index_, waiting_ + first, std::min(kFewSurvivors, count - first), plan_.table(), scores + first);
  }
  best_.offer(scores, count, [this](std::int64_t i) { return places_[i]; },
              [](std::int64_t) { return std::size_t{1}; });
  num_waiting_ -= count;
  std::copy(waiting_ + count, waiting_ + count + num_waiting_, waiting_);
  std::copy(places_ + count, places_ + count + num_waiting_, places_);
}

// Set up the next task from `unit` on, up to `last` at most; false where no item can reach the threshold.
bool RowScan::aim(std::int64_t unit, std::int64_t last, float bias, BoundTask& task) {
  best_.tighten_if_worth();
  if (num_seen_ >= build_at_) {
    best_.tighten();
    build_bounds(unit * kUnitItems);
  }
  if (!bounds_.aim(index_, bias, best_.threshold(), look_, task)) return false;
  point(task);
  // As long as few were seen the threshold rises fast, so look at it often.
  constexpr std::int64_t kBlockUnits = kBlockItems / kUnitItems;
  const std::int64_t patience =
      std::clamp(num_seen_ / (2 * kBlockItems) * kBlockUnits, kBlockUnits, kMaxUnits);
  task.begin = unit;
  task.end = std::min(last, unit - unit % kBlockUnits + (trial_ ? std::min(patience, kTrialUnits) : patience));
  task.last = last;
  return true;
}

void RowScan::point(BoundTask& task) const {
  task.codes = items_->block(0);
  task.num_columns = items_->columns();
  task.norms = items_->uses_norms() ? items_->norms : nullptr;
  task.fetch = fetch_;
}

// Bits are read only where something passed, which no hardware foresees; where little does, they would be fetched in vain.
void RowScan::fetch_wanted(const BoundTask& task) const {
  if (wanted_ == nullptr || !passed_) return;
  constexpr std::int64_t kWords = kLineBytes / 8;
  for (std::int64_t unit = task.begin; unit < task.end; unit += kWords) __builtin_prefetch(wanted_ + unit);
  __builtin_prefetch(wanted_ + task.end - 1);
}

// Take the task of the rows before, of another segment's part of the same list: what passed then may pass now. The
// threshold may have risen since, so that more passes than need be.
bool RowScan::aim_again(std::int64_t unit, std::int64_t last, float bias) {
  if (!aimed_ || task_.look != look_ || bias != aimed_bias_ || last - unit > kShortUnits || num_seen_ >= build_at_) return false;
  point(task_);
  task_.begin = unit;
  task_.end = task_.last = last;
  return true;
}

void RowScan::scan_by_bounds(std::int64_t begin, std::int64_t end, float bias) {
  if (begin >= end) return;
  std::int64_t last = (end + kUnitItems - 1) / kUnitItems;
  if (items_->uses_norms() && last * kUnitItems > items_->num_items) {
    // Norms end with the items, in the middle of this unit.
    --last;
    take_unit(last, wanted_items(last, begin, end), bias);
  }
  for (std::int64_t unit = begin / kUnitItems; unit < last; unit = task_.end) {
    if (!aim_again(unit, last, bias)) {
      aimed_ = aim(unit, last, bias, task_);
      if (!aimed_) return;
      aimed_bias_ = bias;
    }
    fetch_wanted(task_);
    bound(task_);
    take_masks(task_, begin, end, bias);
  }
}

bool RowScan::scan_probed(const Segment& segment) {
  if (!bounded_) return false;
  look_at(segment);
  const float* biases = plan_.probed_biases().data();
  const std::int64_t num_blocks = choose_blocks(biases);
  for (std::int64_t i = 0; i < num_blocks; ++i) scan_block(blocks_[static_cast<std::size_t>(i)], biases);
  score_eights();
  return true;
}

// Blocks that may hold any of the best, by the best bias of their lists. Before any is scanned: how many lists a block has
// is hard to guess, and a wrong guess costs least while nothing else goes on.
std::int64_t RowScan::choose_blocks(const float* biases) {
  const std::int64_t* offsets = items_->list_offsets;
  blocks_.resize(static_cast<std::size_t>(items_->num_blocks()));
  std::int64_t count = 0, list = 0;
  for (std::int64_t begin = 0; begin < items_->num_items; begin += kBlockItems) {
    const std::int64_t end = std::min(begin + kBlockItems, items_->num_items);
    while (offsets[list + 1] <= begin) ++list;
    const std::int64_t first = list;
    float best = biases[list];
    while (offsets[list + 1] < end) {
      ++list;
      best = offsets[list] < offsets[list + 1] ? std::max(best, biases[list]) : best;
    }
    blocks_[static_cast<std::size_t>(count)] = {begin / kBlockItems, first, best};
    count += std::isinf(best) | is_hopeless(best) ? 0 : 1;
  }
  return count;
}

// The best bias serves all lists of a block: of the others more passes than need be.
void RowScan::scan_block(const BlockOfLists& block, const float* biases) {
  constexpr std::int64_t kBlockUnits = kBlockItems / kUnitItems;
  const std::int64_t num_items = items_->num_items, unit = block.number * kBlockUnits;
  std::int64_t last = std::min(unit + kBlockUnits, (num_items + kUnitItems - 1) / kUnitItems);
  if (items_->uses_norms() && last * kUnitItems > num_items) {
    --last;  // norms end with the items
    take_of_lists(last, wanted_items(last, 0, num_items), block.first_list, biases);
  }
  BoundTask task{};
  if (unit == last || !aim(unit, last, block.bias, task)) return;
  bound(task);
  std::int64_t num_passed = 0;
  for (std::int64_t u = unit; u < last; ++u)
    if (masks_[u - unit] != 0)
      num_passed += take_of_lists(u, masks_[u - unit] & wanted_items(u, 0, num_items), block.first_list, biases);
  choose_look(task, num_passed);
  num_seen_ += (last - unit) * kUnitItems;
}

// By what passed the last task's bounds.
void RowScan::choose_look(const BoundTask& task, std::int64_t num_passed) {
  const std::int64_t num_items = (task.end - task.begin) * kUnitItems;
  if (task.look > kCodewords && num_passed * kGiveUp > num_items) {
    look_ = task.look - 1;
    // So many times too many passed; with a threshold as much better, and some to spare, it may do.
    std::int64_t& from = next_from_[look_];
    from = std::min(std::max(2 * from, from * kGiveUp * num_passed / num_items * 3 / 2), kNever);
    trial_ = false;
    return;
  }
  // One more than passed: that none of a few did says little.
  trial_ = task.look + 1 < kNumLooks && bound_[task.look + 1] != nullptr &&
           (num_passed + 1) * next_from_[task.look] <= num_items;
  look_ = task.look + (trial_ ? 1 : 0);
}

// Score what passed.
void RowScan::take_masks(const BoundTask& task, std::int64_t begin, std::int64_t end, float bias) {
  // First which units, without a branch to guess: something passes in one of a few, and nobody knows which.
  const auto num_units = static_cast<std::int32_t>(task.end - task.begin);
  std::int64_t count = 0, num_passed = 0;
  for (std::int32_t i = 0; i < num_units; ++i) {
    units_[count] = i;
    count += masks_[i] != 0 ? 1 : 0;
  }
  passed_ = count > 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t unit = task.begin + units_[i];
    num_passed += take_some(unit, masks_[units_[i]] & wanted_items(unit, begin, end), bias);
  }
  choose_look(task, num_passed);
  score_eights();
  num_seen_ += (task.end - task.begin) * kUnitItems;
}

}  // namespace poeem
