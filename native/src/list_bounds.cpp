#include "poeem/list_bounds.h"

#include "poeem/scratch.h"

#include <algorithm>
#include <cmath>

namespace poeem {
namespace {

constexpr float kTop = 127.0F;
constexpr int kLanes = 8;  // sums of their own, so that a compiler can keep them in registers

// Lengths in float are above the true ones, and infinite or NaN where there are none.
float rounded_up(double length) { return static_cast<float>(length * (1.0 + 0x1p-16)) + 1e-37F; }

struct Rounded {
  float scale;
  double length, error;  // at least those of the multiples, and of what they miss
  std::int32_t sum;
};

float total(const float* lanes) {
  float sum = 0.0F;
  for (int i = 0; i < kLanes; ++i) sum += lanes[i];
  return sum;
}

// bytes: [dim rounded up to kLanes], from -127 to 127.
Rounded round_to_bytes(const float* vector, std::int64_t dim, std::int32_t* bytes) {
  float highs[kLanes] = {};
  const auto lanes = [dim](std::int64_t first) { return static_cast<int>(std::min<std::int64_t>(kLanes, dim - first)); };
  for (std::int64_t j = 0; j < dim; j += kLanes)
    for (int i = 0; i < lanes(j); ++i) highs[i] = std::max(highs[i], std::abs(vector[j + i]));
  Rounded rounded{*std::max_element(highs, highs + kLanes) / kTop, 0.0, 0.0, 0};
  const float inverse = rounded.scale > 0.0F ? 1.0F / rounded.scale : 0.0F;
  float lengths[kLanes] = {}, errors[kLanes] = {};
  for (std::int64_t j = 0; j < dim; j += kLanes)
    for (int i = 0; i < lanes(j); ++i) {
      const float number = vector[j + i] * inverse;  // NaN or infinite: so is the error
      const float moderate = number > -128.0F && number < 127.5F ? number : 0.0F;
      bytes[j + i] = static_cast<std::int32_t>(moderate + (moderate < 0.0F ? -0.5F : 0.5F));
      const auto nearest = static_cast<float>(bytes[j + i]);
      lengths[i] += nearest * nearest;
      errors[i] += (number - nearest) * (number - nearest);
    }
  for (std::int64_t j = 0; j < dim; ++j) rounded.sum += bytes[j];
  // What float arithmetic hides: here, in a sum of dim products, and in a bound of theirs, is no more than this share.
  const double share = static_cast<double>(dim + 32) * 0x1p-23;
  rounded.length = std::sqrt(static_cast<double>(total(lengths))) * static_cast<double>(rounded.scale);
  rounded.error = std::sqrt(static_cast<double>(total(errors))) * static_cast<double>(rounded.scale);
  rounded.error += share * (rounded.length + rounded.error);
  return rounded;
}

}  // namespace

void PackedLists::pack(const float* centroids, std::int64_t num_lists, std::int64_t dim) {
  const std::int64_t num_blocks = (num_lists + kListBlock - 1) / kListBlock, num_quads = (dim + kQuad - 1) / kQuad;
  const auto room = static_cast<std::size_t>(num_blocks * kListBlock);
  bytes_.assign(room * static_cast<std::size_t>(num_quads * kQuad), 0);
  offsets_.assign(room, 0);
  scales_.assign(room, 0.0F), errors_.assign(room, 0.0F), lengths_.assign(room, 0.0F);
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(dim + kLanes));
  for (std::int64_t l = 0; l < num_lists; ++l, centroids += dim) {
    const Rounded rounded = round_to_bytes(centroids, dim, numbers.data());
    std::int8_t* block = bytes_.data() + l / kListBlock * num_quads * kListBlock * kQuad + l % kListBlock * kQuad;
    for (std::int64_t j = 0; j < dim; ++j)
      block[j / kQuad * kListBlock * kQuad + j % kQuad] = static_cast<std::int8_t>(numbers[static_cast<std::size_t>(j)]);
    const auto i = static_cast<std::size_t>(l);
    offsets_[i] = static_cast<std::int32_t>(128 * rounded.sum);
    scales_[i] = rounded.scale;
    errors_[i] = rounded_up(rounded.error);
    lengths_[i] = rounded_up(rounded.length + rounded.error);
  }
  lists_ = {num_blocks, num_quads, bytes_.data(), offsets_.data(), scales_.data(), errors_.data(), lengths_.data()};
}

ListBoundsTask pack_query(const float* query, std::int64_t dim, const ByteLists& lists, std::uint8_t* bytes) {
  ScratchVector<std::int32_t> numbers(static_cast<std::size_t>(dim + kLanes));
  const Rounded rounded = round_to_bytes(query, dim, numbers.data());
  std::fill(bytes + dim, bytes + lists.num_quads * kQuad, std::uint8_t{128});
  for (std::int64_t j = 0; j < dim; ++j) bytes[j] = static_cast<std::uint8_t>(numbers[static_cast<std::size_t>(j)] + 128);
  return {bytes, rounded.scale, rounded_up(rounded.length), rounded_up(rounded.error), nullptr, nullptr};
}

}  // namespace poeem
