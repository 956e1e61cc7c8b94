#include "bound_table.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "scoring.h"

namespace poeem {
namespace {

// Beyond it, sums may overflow float32, whose rounding the bounds rest on.
constexpr double kLargest = 1e37;
// A quotient below it may have lost its sign to underflow.
constexpr float kTiny = 1e-20F;
constexpr std::size_t kAlignment = 64;  // loads of a table that cross cache lines take twice the time
constexpr double kTopShortfall = 254.0;  // one below what saturates
constexpr std::int64_t kGroupColumns = 16;

// Of items that pass, no group's share of the gap is much above this many times its share of the range.
constexpr double kUneven = 1.5;

}  // namespace

bool BoundTable::measure(const IndexView& index, const float* table, float max_abs_bias) {
  const std::int64_t stride = table_stride(index);
  const std::int64_t width = std::min(index.num_codewords, stride);
  highs_.resize(static_cast<std::size_t>(index.num_subspaces));
  ranges_.resize(highs_.size());
  size_ = static_cast<double>(max_abs_bias);
  highest_ = 0.0;
  for (std::int64_t m = 0; m < index.num_subspaces; ++m) {
    const auto [low, high, finite] = arithmetic_.extent(table + m * stride, width);
    if (!finite) return false;
    size_ += static_cast<double>(std::max(std::abs(low), std::abs(high)));
    highest_ += static_cast<double>(high);
    highs_[static_cast<std::size_t>(m)] = high;
    ranges_[static_cast<std::size_t>(m)] = high - low;
  }
  return size_ < kLargest;
}

bool BoundTable::in_one_group(const IndexView& index) { return index.columns() <= kGroupColumns; }

bool BoundTable::is_moderate(float threshold) { return std::abs(static_cast<double>(threshold)) < kLargest; }

// shortfall[m, k] = the largest whole number, up to 255, with step * shortfall <= high_m - table[m, k].
void BoundTable::build(const IndexView& index, const float* table, double reach) {
  const std::int64_t per_column = index.width == CodeWidth::kFourBit ? 2 : 1;
  const std::int64_t num_groups = (index.columns() + kGroupColumns - 1) / kGroupColumns;
  double range = 0.0, total = 0.0;  // the largest of the groups' sums, and all of them
  for (std::int64_t first = 0; first < index.num_subspaces; first += kGroupColumns * per_column) {
    double sum = 0.0;
    for (std::int64_t m = first; m < std::min(first + kGroupColumns * per_column, index.num_subspaces); ++m)
      sum += static_cast<double>(ranges_[static_cast<std::size_t>(m)]);
    range = std::max(range, sum);
    total += sum;
  }
  // More than the error below and the threshold's slack: a gap of nothing would be lost in them, and everything pass.
  const double unit = std::ldexp(1.0, -23);
  const auto count = static_cast<double>(index.num_subspaces);
  const double gap = std::max(highest_ - reach, 0.0) + (count + 32.0) * unit * size_;
  // Of residual codes the first group has nearly all: saturated before the gap it would let everything pass.
  const double share = num_groups == 1 || total <= 0.0 ? 1.0 : std::min(1.0, kUneven * range / total);
  step_ = std::max(std::min(gap * share, range) / kTopShortfall, size_ * 1e-9 + 1e-30);
  fill(index, table);
  if (index.width == CodeWidth::kByte) build_less_sharp(index.num_subspaces);
}

void BoundTable::build_evenly(const IndexView& index, const float* table) {
  float range = 0.0F;
  for (const float each : ranges_) range = std::max(range, each);
  step_ = std::max(static_cast<double>(range) / static_cast<double>(kEvenShortfall), size_ * 1e-9 + 1e-30);
  fill(index, table);
}

void BoundTable::aim_evenly(BoundTask& task) const {
  task.look = kCodewords;
  task.table = tables_[kCodewords];
  task.group_columns = 2;
}

// Each shortfall of a score's, and the list's share, is less than a step above what stands for it.
std::int64_t BoundTable::sums_apart(const IndexView& index) const {
  return index.num_subspaces + 2 + static_cast<std::int64_t>(std::min(2 * error_ / step_, 65535.0));
}

std::int64_t BoundTable::largest_sum(float bias, float threshold) const {
  const double reach = static_cast<double>(bias) + highest_ + error_ + slack_of(threshold) - static_cast<double>(threshold);
  return reach < 0.0 ? -1 : static_cast<std::int64_t>(std::min(reach / step_, 65535.0));
}

void BoundTable::fill(const IndexView& index, const float* table) {
  const std::int64_t stride = table_stride(index);
  const std::int64_t width = std::min(index.num_codewords, stride);
  const std::int64_t per_column = index.width == CodeWidth::kFourBit ? 2 : 1;
  const auto num_bytes = static_cast<std::size_t>(index.columns() * per_column * stride);
  const bool bytes = index.width == CodeWidth::kByte;
  const std::size_t room = (bytes ? 2 : 1) * num_bytes + kAlignment;
  // Who is beyond its codebook has no score (scoring.h); half a byte that no subspace has must not count.
  const bool padded = !bytes || width < stride;
  if (room_.size() != room) room_.resize(room);
  if (padded) std::fill(room_.begin(), room_.end(), static_cast<std::uint8_t>(bytes ? 255 : 0));
  tables_[kCodewords] = room_.data() + (-reinterpret_cast<std::uintptr_t>(room_.data())) % kAlignment;
  const float inverse = static_cast<float>(1.0 / step_);
  for (std::int64_t m = 0; m < index.num_subspaces; ++m) {
    const float* row = table + m * stride;
    const float high = highs_[static_cast<std::size_t>(m)];
    arithmetic_.shortfalls(row, width, high, inverse, tables_[kCodewords] + m * stride);
  }
  // Rounding: of each float addition, half a unit in the last place of at most `size`; of each shortfall above, far less
  // than a thousandth of a step; of the threshold and of a kernel's own float arithmetic, a few units of `size`.
  const double unit = std::ldexp(1.0, -23);
  const auto count = static_cast<double>(index.num_subspaces);
  error_ = (count + 8.0) * unit * size_ + 1e-3 * count * step_ + 1e-37;
}

void BoundTable::build_less_sharp(std::int64_t num_columns) {
  for (int look = kPairs; look < kNumLooks; ++look) {
    const std::int64_t count = num_entries(look);
    tables_[look] = tables_[look - 1] + num_columns * num_entries(look - 1);
    for (std::int64_t m = 0; m < num_columns; ++m)
      arithmetic_.lesser_halves(tables_[look - 1] + m * 2 * count, count, tables_[look] + m * count);
  }
}

bool BoundTable::aim(const IndexView& index, float bias, float threshold, int look, BoundTask& task) const {
  task.look = look;
  task.table = tables_[look];
  task.group_columns = kGroupColumns;
  if (index.uses_norms()) {
    const double slack = slack_of(threshold);
    const double offset = static_cast<double>(bias) + highest_ + error_;
    // Factors a little below the true ones pay for roundings in proportion to the norm. Sums reach 2^16 steps.
    const float down = 1.0F - std::ldexp(1.0F, -20);
    const double rounding = (std::abs(offset) + 65536.0 * step_) * std::ldexp(1.0, -21);
    task.scale = static_cast<float>(step_);
    task.offset = static_cast<float>(offset + rounding);
    if (!is_moderate(threshold)) {  // divided by a norm near 0
      task.factor = 0.0F;
      task.shift = -std::numeric_limits<float>::infinity();
    } else if (index.metric == Metric::kCosine) {
      task.factor = threshold > 0 ? threshold * down : static_cast<float>(threshold - slack);
      if (std::abs(threshold) < kTiny) task.factor = -2.0F * kTiny;
      task.shift = 0.0F;
    } else {
      task.factor = down;
      task.shift = static_cast<float>(threshold - slack);
    }
    return true;
  }
  const std::int64_t limit = largest_sum(bias, threshold);
  task.limit = static_cast<std::uint16_t>(std::max<std::int64_t>(limit, 0));
  return limit >= 0;
}

}  // namespace poeem
