#include "poeem/givens.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../kernels/kernels.h"

namespace poeem {
namespace {

constexpr std::int64_t kTile = 16;    // rows and columns looked at together with their mirror image
constexpr std::int64_t kBlock = 128;  // floats whose maximum is taken before their places are looked at

using Tile = float[kTile][kTile];

// Rows and columns of a tile, up to the edge of the matrix.
struct Place {
  std::int64_t row, column, num_rows, num_columns;
};

Place place_of(std::int64_t row, std::int64_t column, std::int64_t dim) {
  return {row, column, std::min(kTile, dim - row), std::min(kTile, dim - column)};
}

void read(const float* from, const Place& place, std::int64_t dim, Tile& tile) {
  const float* row = from + place.row * dim + place.column;
  if (place.num_rows == kTile && place.num_columns == kTile) {
    for (std::int64_t r = 0; r < kTile; ++r) std::copy_n(row + r * dim, kTile, tile[r]);
    return;
  }
  for (std::int64_t r = 0; r < place.num_rows; ++r) std::copy_n(row + r * dim, place.num_columns, tile[r]);
}

void write(const Tile& tile, const Place& place, std::int64_t dim, float* to) {
  float* row = to + place.row * dim + place.column;
  if (place.num_rows == kTile && place.num_columns == kTile) {
    for (std::int64_t r = 0; r < kTile; ++r) std::copy_n(tile[r], kTile, row + r * dim);
    return;
  }
  for (std::int64_t r = 0; r < place.num_rows; ++r) std::copy_n(tile[r], place.num_columns, row + r * dim);
}

void transpose(const Tile& from, Tile& to) {
  for (std::int64_t r = 0; r < kTile; ++r)
    for (std::int64_t c = 0; c < kTile; ++c) to[r][c] = from[c][r];
}

// Write a tile, and its negative to its mirror image.
void write_skew(const Tile& tile, const Place& place, const Place& mirror, std::int64_t dim, float* to) {
  Tile other;
  transpose(tile, other);
  for (auto& row : other)
    for (float& value : row) value = -value;
  write(other, mirror, dim, to);
  write(tile, place, dim, to);  // last: on the diagonal a tile is its own mirror image
}

// Each entry is computed once, on or above the diagonal; those of skew matrices are written to both places.
void update_moments(const GivensRequest& request) {
  const std::int64_t dim = request.dim;
  Tile slopes = {}, other = {}, mean = {}, square = {};
  for (std::int64_t r0 = 0; r0 < dim; r0 += kTile)
    for (std::int64_t c0 = r0; c0 < dim; c0 += kTile) {
      const Place place = place_of(r0, c0, dim), mirror = place_of(c0, r0, dim);
      Tile across;
      read(request.product, place, dim, slopes);
      read(request.product, mirror, dim, other);
      transpose(other, across);
      for (std::int64_t r = 0; r < kTile; ++r)
        for (std::int64_t c = 0; c < kTile; ++c) slopes[r][c] -= across[r][c];
      if (request.mean == nullptr) {
        write_skew(slopes, place, mirror, dim, request.product);
        continue;
      }
      read(request.mean, place, dim, mean);
      read(request.square, place, dim, square);
      for (std::int64_t r = 0; r < kTile; ++r)
        for (std::int64_t c = 0; c < kTile; ++c) {
          const float slope = slopes[r][c];
          mean[r][c] += (1.0F - request.decay_mean) * (slope - mean[r][c]);
          square[r][c] = request.decay_square * square[r][c] + (1.0F - request.decay_square) * slope * slope;
        }
      write_skew(mean, place, mirror, dim, request.mean);
      write(square, place, dim, request.square);
    }
}

// A column and its |weight|; none yet.
struct Best {
  std::int64_t column = -1;
  float value = -0.5F;
};

// Take the first of the largest of columns begin..end - 1, where larger than `best`.
void look_at(const float* row, const float* bias, std::int64_t begin, std::int64_t end, LargestFunction largest,
             Best& best) {
  for (; begin < end; begin += kBlock) {
    const float value = largest(row + begin, bias + begin, std::min(kBlock, end - begin));
    if (!(value > best.value)) continue;
    best.value = value;
    for (best.column = begin; std::fabs(row[best.column]) + bias[best.column] != value;) ++best.column;
  }
}

}  // namespace

void greedy_pairs(const float* weights, std::int64_t dim, const std::string& kernel, std::int64_t* out) {
  const LargestFunction largest = choose_kernel(kernel).largest;
  const auto size = static_cast<std::size_t>(dim);
  std::vector<float> bias(size, 0.0F);
  std::vector<std::int64_t> left(size), best(size, -1);
  for (std::int64_t i = 0; i < dim; ++i) left[static_cast<std::size_t>(i)] = out[i] = i;
  const auto is_paired = [&](std::int64_t i) { return out[i] != i; };
  const auto look = [&](std::int64_t i) {
    const float* row = weights + i * dim;
    Best found;
    if (4 * left.size() > size) {
      look_at(row, bias.data(), 0, i, largest, found);
      look_at(row, bias.data(), i + 1, dim, largest, found);
    } else {
      for (std::int64_t j : left)
        if (j != i && std::fabs(row[j]) > found.value) found = {j, std::fabs(row[j])};
    }
    best[static_cast<std::size_t>(i)] = found.column;
  };
  for (std::int64_t i : left) look(i);
  // Two rows that are each other's best are what picking one by one would join, whatever comes before. The largest
  // weight that is left always joins two, as both see the smallest number among equals.
  for (bool joined = true; joined;) {
    joined = false;
    for (std::int64_t i : left) {
      const std::int64_t j = best[static_cast<std::size_t>(i)];
      if (j <= i || best[static_cast<std::size_t>(j)] != i) continue;
      out[i] = j, out[j] = i;
      bias[static_cast<std::size_t>(i)] = bias[static_cast<std::size_t>(j)] = -std::numeric_limits<float>::infinity();
      joined = true;
    }
    left.erase(std::remove_if(left.begin(), left.end(), is_paired), left.end());
    for (std::int64_t i : left) {
      const std::int64_t j = best[static_cast<std::size_t>(i)];
      if (j >= 0 && is_paired(j)) look(i);
    }
  }
}

void givens_turn(const GivensRequest& request) {
  const std::int64_t dim = request.dim;
  update_moments(request);
  const float* slopes = request.mean == nullptr ? request.product : request.mean;
  std::vector<std::int64_t> pairs;
  const std::int64_t* partner = request.partner;
  if (partner == nullptr) {
    pairs.resize(static_cast<std::size_t>(dim));
    greedy_pairs(slopes, dim, request.kernel, pairs.data());
    partner = pairs.data();
  }
  for (std::int64_t i = 0; i < dim; ++i) {
    const std::int64_t j = partner[i];
    if (j <= i) continue;
    double angle = request.lr * request.scale_mean * slopes[i * dim + j];
    if (request.mean != nullptr)
      angle /= std::sqrt(request.scale_square * request.square[i * dim + j]) + 1e-12;
    const auto cosine = static_cast<float>(std::cos(angle));
    const auto sine = static_cast<float>(std::sin(angle));
    float* first = request.rotation + i * dim;
    float* second = request.rotation + j * dim;
    for (std::int64_t k = 0; k < dim; ++k) {
      const float a = first[k], b = second[k];
      first[k] = cosine * a - sine * b;
      second[k] = cosine * b + sine * a;
    }
  }
}

}  // namespace poeem
