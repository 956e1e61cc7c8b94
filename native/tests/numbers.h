// What the native tests make vectors of.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

inline std::vector<float> normal(std::int64_t count, std::mt19937& random) {
  std::normal_distribution<float> distribution;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = distribution(random);
  return values;
}
