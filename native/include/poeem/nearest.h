// Assignment of points to their nearest centers: the inner loop of encoding, k-means and lists.
#pragma once

#include <cstdint>
#include <string>

namespace poeem {

// Strides are in elements. Distances may differ in the last bits from kernel to kernel (FMA or none), so a
// point as near to two centers may go to either; one kernel always gives the same answer, on any number of threads.
struct NearestRequest {
  const float* points = nullptr;    // [num_groups, num_points, width], any strides
  std::int64_t group_stride = 0;
  std::int64_t point_stride = 0;
  std::int64_t coordinate_stride = 1;
  const float* centers = nullptr;   // [num_groups, num_centers, width], contiguous
  std::int64_t num_groups = 0;
  std::int64_t num_points = 0;
  std::int64_t width = 0;
  std::int64_t num_centers = 0;     // 1 to 2^31 - 1
  std::int64_t num_threads = 1;
  std::string kernel;               // empty = the best this machine can run
};

// out[point * num_groups + group] = argmax over centers c of <x, c> - |c|^2 / 2, ties to the smaller number.
// Throws Error; joins every thread it started.
void nearest(const NearestRequest& request, std::int64_t* out);

}  // namespace poeem
