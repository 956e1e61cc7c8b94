// The largest |value| of a row, which pairs are chosen by; one instantiation per instruction set, as of nearest/tile.h.
#pragma once

#include <cstdint>
#include <limits>

namespace poeem {

// max of |row[j]| + bias[j] over j < count, or -inf; bias is 0, or -inf for what does not count. With a NaN among them
// it may be NaN.
using LargestFunction = float (*)(const float* row, const float* bias, std::int64_t count);

// V: Float, kLanes, load, put, set, add, subtract, greatest.
template <class V>
float largest(const float* row, const float* bias, std::int64_t count) {
  constexpr int kRegisters = 4;
  const typename V::Float zero = V::set(0.0F);
  typename V::Float best[kRegisters];
  for (auto& one : best) one = V::set(-std::numeric_limits<float>::infinity());
  std::int64_t j = 0;
  for (; j + kRegisters * V::kLanes <= count; j += kRegisters * V::kLanes)
    for (int r = 0; r < kRegisters; ++r) {
      const typename V::Float x = V::load(row + j + r * V::kLanes);
      const typename V::Float size = V::greatest(V::subtract(zero, x), x);
      best[r] = V::greatest(V::add(size, V::load(bias + j + r * V::kLanes)), best[r]);
    }
  for (int r = 1; r < kRegisters; ++r) best[0] = V::greatest(best[r], best[0]);
  float lanes[V::kLanes];
  V::put(lanes, best[0]);
  float found = lanes[0];
  for (int lane = 1; lane < V::kLanes; ++lane) found = lanes[lane] > found ? lanes[lane] : found;
  for (; j < count; ++j) {
    const float value = (row[j] < 0.0F ? -row[j] : row[j]) + bias[j];
    found = value > found ? value : found;
  }
  return found;
}

}  // namespace poeem
