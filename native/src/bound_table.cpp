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
constexpr float kTopBound = 254.0F;  // bounds round up, to 255 at most

struct Extent {
  float low, high;
  bool finite;
};

// Lanes of their own, so that a compiler can keep them in a register.
Extent extent_of(const float* row, std::int64_t width) {
  constexpr int kLanes = 16;
  float lows[kLanes], highs[kLanes], sums[kLanes];
  for (int i = 0; i < kLanes; ++i) lows[i] = highs[i] = row[0], sums[i] = 0.0F;
  std::int64_t k = 0;
  for (; k + kLanes <= width; k += kLanes) {
    for (int i = 0; i < kLanes; ++i) {
      lows[i] = row[k + i] < lows[i] ? row[k + i] : lows[i];
      highs[i] = row[k + i] > highs[i] ? row[k + i] : highs[i];
      sums[i] += row[k + i] * 0.0F;  // stays 0 unless one is NaN or infinite
    }
  }
  for (; k < width; ++k) {
    lows[0] = std::min(lows[0], row[k]);
    highs[0] = std::max(highs[0], row[k]);
    sums[0] += row[k] * 0.0F;
  }
  Extent extent = {lows[0], highs[0], true};
  for (int i = 0; i < kLanes; ++i) {
    extent.low = std::min(extent.low, lows[i]);
    extent.high = std::max(extent.high, highs[i]);
    extent.finite = extent.finite && sums[i] == 0.0F;
  }
  return extent;
}

}  // namespace

// bound[m, k] = the least whole number with low_m + step * bound >= table[m, k]; sums of bounds bound sums of entries.
bool BoundTable::build(const IndexView& index, const float* table, float max_bias,
                       float max_abs_bias, float threshold) {
  const std::int64_t stride = table_stride(index);
  const std::int64_t width = std::min(index.num_codewords, stride);
  lows_.resize(static_cast<std::size_t>(index.num_subspaces));
  highs_.resize(lows_.size());
  double size = static_cast<double>(max_abs_bias);  // no partial sum is larger
  double highest = static_cast<double>(max_bias);   // no score is
  std::vector<float>&lows = lows_, &highs = highs_;
  for (std::int64_t m = 0; m < index.num_subspaces; ++m) {
    const float* row = table + m * stride;
    const auto [low, high, finite] = extent_of(row, width);
    if (!finite) return false;
    size += static_cast<double>(std::max(std::abs(low), std::abs(high)));
    highest += static_cast<double>(high);
    lows[static_cast<std::size_t>(m)] = low;
    highs[static_cast<std::size_t>(m)] = high;
  }
  if (!(size < kLargest) || !(std::abs(static_cast<double>(threshold)) < kLargest)) return false;
  // An entry further below its subspace's best than this keeps any item from the threshold: it may be overestimated,
  // which leaves finer steps to the others. (Cosine and norms divide or subtract afterwards: no such limit there.)
  double gap = std::numeric_limits<double>::infinity();
  if (!index.uses_norms())
    gap = std::max(highest - static_cast<double>(threshold), 0.0) + 1e-6 * size;
  double range = 0.0;
  base_ = 0.0;
  for (std::int64_t m = 0; m < index.num_subspaces; ++m) {
    const float high = highs[static_cast<std::size_t>(m)];
    float& low = lows[static_cast<std::size_t>(m)];
    low = std::max(low, static_cast<float>(std::max(static_cast<double>(high) - gap, -kLargest)));
    range = std::max(range, static_cast<double>(high) - static_cast<double>(low));
    base_ += static_cast<double>(low);
  }
  step_ = std::max(range / static_cast<double>(kTopBound), size * 1e-9 + 1e-30);
  const std::int64_t per_column = index.width == CodeWidth::kFourBit ? 2 : 1;
  const auto num_bytes = static_cast<std::size_t>(index.columns() * per_column * stride);
  room_.assign(num_bytes + kAlignment, 0);
  bounds_ = room_.data() + (-reinterpret_cast<std::uintptr_t>(room_.data())) % kAlignment;
  const float inverse = static_cast<float>(1.0 / step_);
  for (std::int64_t m = 0; m < index.num_subspaces; ++m) {
    const float* row = table + m * stride;
    const float low = lows[static_cast<std::size_t>(m)];
    std::uint8_t* out = bounds_ + m * stride;
    for (std::int64_t k = 0; k < width; ++k) {
      const float x = std::max((row[k] - low) * inverse, 0.0F);
      const int bound = static_cast<int>(x) + (x > 0.0F ? 1 : 0);
      out[k] = static_cast<std::uint8_t>(std::min(bound, 255));
    }
  }
  // Rounding: of each float addition, half a unit in the last place of at most `size`; of each bound above, far less
  // than a thousandth of a step; of the threshold and of a kernel's own float arithmetic, a few units of `size`.
  const double unit = std::ldexp(1.0, -23);
  const auto count = static_cast<double>(index.num_subspaces);
  error_ = (count + 8.0) * unit * size + 1e-3 * count * step_ + 1e-37;
  return true;
}

bool BoundTable::aim(const IndexView& index, float bias, float threshold, BoundTask& task) const {
  task.table = bounds_;
  const double slack = std::abs(static_cast<double>(threshold)) * std::ldexp(1.0, -20);
  const double offset = static_cast<double>(bias) + base_ + error_;
  if (index.uses_norms()) {
    // Factors a little below the true ones pay for roundings in proportion to the norm. Sums reach 2^16 steps.
    const float down = 1.0F - std::ldexp(1.0F, -20);
    const double rounding = (std::abs(offset) + 65536.0 * step_) * std::ldexp(1.0, -21);
    task.scale = static_cast<float>(step_);
    task.offset = static_cast<float>(offset + rounding);
    if (!(std::abs(static_cast<double>(threshold)) < kLargest)) {  // divided by a norm near 0
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
  const double sum = std::floor((static_cast<double>(threshold) - slack - offset) / step_);
  if (sum > 65535.0) return false;
  task.threshold = sum > 0.0 ? static_cast<std::uint16_t>(sum) : std::uint16_t{0};
  return true;
}

}  // namespace poeem
