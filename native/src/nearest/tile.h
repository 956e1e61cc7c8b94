// The tile every nearest-center kernel runs: kPoints x kCenters sums in registers. Plain pointers and one struct of
// vector operations, so that nothing compiled for one instruction set can be linked into another.
#pragma once

#include <cstdint>

namespace poeem {

// One block of points against all centers of a group.
// points: [width, kPoints], transposed. centers: [num_tiles, width, kCenters], transposed within a tile.
// offsets: [num_tiles * kCenters], -|c|^2 / 2, -inf where there is no center. best: [kPoints].
using NearestFunction = void (*)(const float* points, const float* centers, const float* offsets,
                                 std::int64_t width, std::int64_t num_tiles, std::int32_t* best);

struct NearestTile {
  std::int64_t num_points;
  std::int64_t num_centers;
  NearestFunction run;
};

// V: Float, Int, kLanes, load, set, fma(a, b, c) = a b + c, lowest(), zero(), take_greater(sum, best, index, number), store.
// V differs from file to file, so each instantiation belongs to one file only.
template <class V, int kRegisters, int kCenters>
void nearest_tile(const float* points, const float* centers, const float* offsets,
                  std::int64_t width, std::int64_t num_tiles, std::int32_t* best) {
  constexpr int kPoints = kRegisters * V::kLanes;
  typename V::Float highest[kRegisters];
  typename V::Int index[kRegisters];
  for (int r = 0; r < kRegisters; ++r) highest[r] = V::lowest(), index[r] = V::zero();
  for (std::int64_t tile = 0; tile < num_tiles; ++tile, offsets += kCenters) {
    typename V::Float sums[kRegisters][kCenters];
    for (int c = 0; c < kCenters; ++c)
      for (int r = 0; r < kRegisters; ++r) sums[r][c] = V::set(offsets[c]);
    const float* point = points;
    for (std::int64_t j = 0; j < width; ++j, point += kPoints, centers += kCenters) {
      typename V::Float x[kRegisters];
      for (int r = 0; r < kRegisters; ++r) x[r] = V::load(point + r * V::kLanes);
      for (int c = 0; c < kCenters; ++c) {
        const typename V::Float value = V::set(centers[c]);
        for (int r = 0; r < kRegisters; ++r) sums[r][c] = V::fma(x[r], value, sums[r][c]);
      }
    }
    for (int c = 0; c < kCenters; ++c)
      for (int r = 0; r < kRegisters; ++r)
        V::take_greater(sums[r][c], highest[r], index[r],
                        static_cast<std::int32_t>(tile * kCenters + c));
  }
  for (int r = 0; r < kRegisters; ++r) V::store(best + r * V::kLanes, index[r]);
}

}  // namespace poeem
