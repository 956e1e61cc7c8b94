// What a search looks at before any score is known: sums of shortfalls, counts of them, bounds of lists.
#include "first_looks.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "../src/arithmetic/arithmetic.h"
#include "../src/kernels/bounds.h"
#include "poeem/kernel.h"
#include "poeem/list_bounds.h"

namespace {

template <class T>
std::vector<T> numbers(std::int64_t count, std::mt19937& random) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& value : values) value = static_cast<T>(random() >> 8);
  return values;
}

// Sums and masks against a loop, bit by bit.
bool sums_agree(std::int64_t columns, std::mt19937& random) {
  constexpr std::int64_t kBlocks = 3, kBegin = 1, kEnd = 4 * kBlocks - 1, kItems = (kEnd - kBegin) * 64;
  const auto codes = numbers<std::uint8_t>(kBlocks * columns * 256, random);
  auto table = numbers<std::uint8_t>(columns * 256, random);
  for (std::uint8_t& entry : table) entry = static_cast<std::uint8_t>(entry % 128);
  poeem::BoundTask task{};
  task.codes = codes.data();
  task.begin = kBegin, task.end = kEnd, task.last = 4 * kBlocks;
  task.num_columns = columns, task.group_columns = 2;
  task.table = table.data();
  task.limit = static_cast<std::uint16_t>(columns * 64);
  std::vector<std::uint16_t> truth(kItems), found(kItems);
  std::vector<std::uint64_t> masks(kEnd - kBegin), found_masks(kEnd - kBegin);
  for (std::int64_t i = 0; i < kItems; ++i) {
    const std::int64_t item = kBegin * 64 + i;
    for (std::int64_t c = 0; c < columns; ++c)
      truth[i] = static_cast<std::uint16_t>(truth[i] + table[c * 256 + codes[(item / 256 * columns + c) * 256 + item % 256]]);
    masks[i / 64] |= static_cast<std::uint64_t>(truth[i] <= task.limit) << (i % 64);
  }
  for (const poeem::Kernel& kernel : poeem::all_kernels()) {
    if (!kernel.supported() || kernel.sum_bytes == nullptr) continue;
    for (const poeem::Fetch fetch : {poeem::Fetch::kFirstLevel, poeem::Fetch::kSecondLevel, poeem::Fetch::kNowhere}) {
      task.fetch = fetch;
      std::fill(found.begin(), found.end(), 0), std::fill(found_masks.begin(), found_masks.end(), 0);
      kernel.sum_bytes(task, found.data(), found_masks.data());
      if (found != truth || found_masks != masks) return false;
    }
  }
  return true;
}

bool counts_agree(std::int64_t units, std::mt19937& random) {
  const auto values = numbers<std::uint16_t>(units * 64, random);
  std::vector<std::uint64_t> masks(static_cast<std::size_t>(units)), found(masks);
  for (const std::uint16_t most : {std::uint16_t{0}, values[0], std::uint16_t{30000}, std::uint16_t{65534}, std::uint16_t{65535}}) {
    std::int64_t count = 0;
    std::fill(masks.begin(), masks.end(), 0);
    for (std::size_t i = 0; i < values.size(); ++i) {
      count += values[i] <= most ? 1 : 0;
      masks[i / 64] |= static_cast<std::uint64_t>(values[i] <= most) << (i % 64);
    }
    for (const poeem::Kernel& kernel : poeem::all_kernels()) {
      if (!kernel.supported()) continue;
      if (kernel.arithmetic->count_at_most(values.data(), units * 64, most) != count) return false;
      kernel.arithmetic->within(values.data(), units, most, found.data());
      if (found != masks) return false;
    }
  }
  return true;
}

// Biases, summed in their order, lie within their bounds, and those are near each other: whatever the size of the numbers.
// exponents: of the lists' and the query's.
bool lists_are_bounded(std::int64_t num_lists, std::int64_t dim, int list_exponent, int query_exponent, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> centroids(static_cast<std::size_t>(num_lists * dim)), query(static_cast<std::size_t>(dim));
  for (std::size_t i = 0; i < centroids.size(); ++i) {
    const auto list = static_cast<int>(i / static_cast<std::size_t>(dim));
    centroids[i] = list % 7 == 3 ? 0.0F : std::ldexp(normal(random), list_exponent + list % 5);
  }
  for (float& value : query) value = std::ldexp(normal(random), query_exponent);
  if (dim > 1) query[0] *= 20.0F;  // far from the others
  poeem::PackedLists packed;
  packed.pack(centroids.data(), num_lists, dim);
  const poeem::ByteLists& lists = packed.lists();
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(lists.num_quads * poeem::kQuad));
  poeem::ListBoundsTask task = poeem::pack_query(query.data(), dim, lists, bytes.data());
  std::vector<float> low(static_cast<std::size_t>(lists.num_blocks * poeem::kListBlock)), high(low.size());
  task.low = low.data(), task.high = high.data();
  for (const poeem::Kernel& kernel : poeem::all_kernels()) {
    if (!kernel.supported() || kernel.list_bounds == nullptr) continue;
    kernel.list_bounds(lists, task);
    for (std::int64_t l = 0; l < num_lists; ++l) {
      volatile float bias = 0.0F;  // each product and each sum is rounded by itself
      double lengths[2] = {0.0, 0.0};
      for (std::int64_t j = 0; j < dim; ++j) {
        const float u = query[static_cast<std::size_t>(j)], v = centroids[static_cast<std::size_t>(l * dim + j)];
        volatile float product = u * v;
        bias = bias + product;
        lengths[0] += static_cast<double>(u) * u, lengths[1] += static_cast<double>(v) * v;
      }
      const auto i = static_cast<std::size_t>(l);
      if (!std::isfinite(low[i]) || !std::isfinite(high[i])) {  // nobody goes by these: numbers too small for a scale
        if (lengths[0] > 1e-70 && (lengths[1] > 1e-70 || lengths[1] == 0.0)) return false;
        continue;
      }
      if (!(low[i] <= bias && bias <= high[i])) return false;
      if (lengths[0] < 1e-60 || lengths[1] < 1e-60) continue;
      const double far = static_cast<double>(high[i]) - low[i], size = std::sqrt(lengths[0]) * std::sqrt(lengths[1]);
      if (far > 0.1 * size + 1e-35) return false;
    }
  }
  return true;
}

}  // namespace

bool first_looks_agree(std::mt19937& random) {
  for (std::int64_t columns : {1, 2, 3, 8, 17, 128, 257})
    if (!sums_agree(columns, random)) {
      std::printf("differ: sums of %ld columns\n", static_cast<long>(columns));
      return false;
    }
  for (std::int64_t units : {1, 2, 32})
    if (!counts_agree(units, random)) {
      std::printf("differ: counts of %ld units\n", static_cast<long>(units));
      return false;
    }
  for (std::int64_t num_lists : {1, 15, 16, 17, 64, 81})
    for (std::int64_t dim : {1, 3, 4, 7, 50, 64, 300})
      for (int list_exponent : {-130, -60, -3, 0, 20, 50})
        for (int query_exponent : {-120, -2, 0, 40})
          if (!lists_are_bounded(num_lists, dim, list_exponent, query_exponent, random)) {
            std::printf("beyond their bounds: %ld lists of %ld coordinates, sizes 2^%d and 2^%d\n", static_cast<long>(num_lists),
                        static_cast<long>(dim), list_exponent, query_exponent);
            return false;
          }
  return true;
}
