// Matrices as tables are made of them: read in their order, a register of neighbours at a time.
#pragma once

#include <algorithm>
#include <cstdint>

namespace poeem {

// Rows [num_rows, width] in panels of so many rows, the last one narrower, each with the other axis last: [width, its rows].
inline void put_in_panels(const float* rows, std::int64_t num_rows, std::int64_t width, std::int64_t panel, float* out) {
  for (std::int64_t first = 0; first < num_rows; first += panel) {
    const std::int64_t count = std::min(panel, num_rows - first);
    for (std::int64_t j = 0; j < width; ++j)
      for (std::int64_t r = 0; r < count; ++r) *out++ = rows[(first + r) * width + j];
  }
}

}  // namespace poeem
