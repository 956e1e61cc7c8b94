#include "poeem/nearest.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "../parallel.h"
#include "poeem/error.h"
#include "poeem/kernel.h"
#include "tile.h"

namespace poeem {
namespace {

constexpr std::int64_t kTaskPoints = 512;          // points of one task: long enough to be worth handing out
constexpr std::int64_t kThreadProducts = 1 << 22;  // multiplications that pay for starting a thread

// Centers of all groups as the tiles want them.
struct PackedCenters {
  PackedCenters(const NearestRequest& request, std::int64_t tile_centers)
      : num_tiles((request.num_centers + tile_centers - 1) / tile_centers),
        group_floats(num_tiles * tile_centers * request.width),
        group_offsets(num_tiles * tile_centers),
        centers(static_cast<std::size_t>(request.num_groups * group_floats)),
        offsets(static_cast<std::size_t>(request.num_groups * group_offsets),
                -std::numeric_limits<float>::infinity()) {
    for (std::int64_t g = 0; g < request.num_groups; ++g) {
      for (std::int64_t c = 0; c < request.num_centers; ++c) {
        const float* center = request.centers + (g * request.num_centers + c) * request.width;
        float* to = centers.data() + g * group_floats +
                    c / tile_centers * tile_centers * request.width + c % tile_centers;
        float square = 0.0F;
        for (std::int64_t j = 0; j < request.width; ++j) {
          to[j * tile_centers] = center[j];
          square += center[j] * center[j];
        }
        offsets[static_cast<std::size_t>(g * group_offsets + c)] = -0.5F * square;
      }
    }
  }

  std::int64_t num_tiles, group_floats, group_offsets;
  std::vector<float> centers;  // [num_groups, num_tiles, width, tile_centers]
  std::vector<float> offsets;  // [num_groups, num_tiles * tile_centers]
};

// Working memory of one thread.
struct Block {
  Block(std::int64_t width, std::int64_t num_points)
      : points(static_cast<std::size_t>(width * num_points)),
        best(static_cast<std::size_t>(num_points)) {}
  std::vector<float> points;  // [width, num_points]
  std::vector<std::int32_t> best;
};

void assign_block(const NearestRequest& request, const NearestTile& tile,
                  const PackedCenters& packed, std::int64_t group, std::int64_t begin,
                  std::int64_t count, Block& block, std::int64_t* out) {
  const float* from =
      request.points + group * request.group_stride + begin * request.point_stride;
  for (std::int64_t i = 0; i < count; ++i, from += request.point_stride)
    for (std::int64_t j = 0; j < request.width; ++j)
      block.points[static_cast<std::size_t>(j * tile.num_points + i)] =
          from[j * request.coordinate_stride];
  tile.run(block.points.data(), packed.centers.data() + group * packed.group_floats,
           packed.offsets.data() + group * packed.group_offsets, request.width, packed.num_tiles,
           block.best.data());
  for (std::int64_t i = 0; i < count; ++i)
    out[(begin + i) * request.num_groups + group] = block.best[static_cast<std::size_t>(i)];
}

}  // namespace

void nearest(const NearestRequest& request, std::int64_t* out) {
  if (request.num_threads < 1) throw Error(ErrorCode::kConfig, "num_threads: wanted at least 1");
  if (request.num_centers < 1 || request.num_centers > std::numeric_limits<std::int32_t>::max())
    throw Error(ErrorCode::kShape, "centers: wanted 1 to 2^31 - 1 in a group");
  if (request.width < 1) throw Error(ErrorCode::kShape, "points: wanted a width of at least 1");
  const NearestTile& tile = *choose_kernel(request.kernel).nearest;
  const PackedCenters packed(request, tile.num_centers);
  const std::int64_t num_tasks = (request.num_points + kTaskPoints - 1) / kTaskPoints;
  const double products = static_cast<double>(request.num_groups * request.num_points) *
                          static_cast<double>(request.num_centers * request.width);
  const auto paying = static_cast<std::int64_t>(std::min(products / kThreadProducts, 1024.0)) + 1;
  run_tasks(num_tasks, std::min(request.num_threads, paying), [&](TaskCounter& tasks) {
    Block block(request.width, tile.num_points);
    for (std::int64_t task = tasks.next(); task < num_tasks; task = tasks.next()) {
      const std::int64_t end = std::min((task + 1) * kTaskPoints, request.num_points);
      for (std::int64_t g = 0; g < request.num_groups; ++g)
        for (std::int64_t begin = task * kTaskPoints; begin < end; begin += tile.num_points)
          assign_block(request, tile, packed, g, begin, std::min(tile.num_points, end - begin),
                       block, out);
    }
  });
}

}  // namespace poeem
