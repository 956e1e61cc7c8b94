// The two inner loops of a beam search: products of rows with all codewords, and a beam's way through them. Plain pointers
// and one struct of vector operations, as in nearest/tile.h.
#pragma once

#include <cstdint>

namespace poeem {

// One codebook, its codewords in blocks of ResidualTile::block, the last filled up.
struct PackedWords {
  const float* words;      // [num_blocks, dim, block]
  const float* offsets;    // [num_blocks * block], -|u|^2 / 2, -inf where there is no codeword; null = all 0
  std::int64_t dim;
  std::int64_t num_blocks;
};

// What errors along one direction cost more: the products of all codewords with it, null = nothing, and that of the error.
struct Along {
  const float* products;
  float error;
};

struct ResidualTile {
  std::int64_t num_rows;  // rows multiplied at once
  std::int64_t block;     // codewords looked at together
  // out[r, k] = <rows[r], word k> + offsets[k]. rows: [num_rows, dim], num_rows a multiple of the tile's.
  void (*products)(const float* rows, std::int64_t num_rows, const PackedWords& packed, float* out);
  // out[k] = score + base[k] - sum over i of minus[i][k] + p[k] * (error - p[k] / 2), p and error those of along. maxima:
  // [block], raised to what is in its group of out; equal codewords fall into different groups in different turns, as they
  // are often good for several partial codes at once.
  void (*extend)(const float* base, const float* const* minus, std::int64_t num_minus, const Along& along, float score,
                 std::int64_t num_blocks, std::int64_t turn, float* out, float* maxima);
  // Write the places of values >= threshold, rising, and return how many there are. count: a multiple of block.
  std::int64_t (*collect)(const float* values, std::int64_t count, float threshold,
                          std::int32_t* places);
};

// V: what nearest_tile wants, and add, subtract, greatest, put, reaches(a, b) (bit i: a_i >= b_i).
template <class V, int kRows, int kRegisters>
void residual_products(const float* rows, std::int64_t num_rows, const PackedWords& packed,
                       float* out) {
  constexpr int kBlock = kRegisters * V::kLanes;
  const std::int64_t dim = packed.dim, width = packed.num_blocks * kBlock;
  for (std::int64_t b = 0; b < packed.num_blocks; ++b) {
    const float* words = packed.words + b * dim * kBlock;
    for (std::int64_t row = 0; row < num_rows; row += kRows) {
      typename V::Float sums[kRows][kRegisters];
      for (int r = 0; r < kRows; ++r)
        for (int c = 0; c < kRegisters; ++c)
          sums[r][c] = packed.offsets == nullptr
                           ? V::set(0.0F)
                           : V::load(packed.offsets + b * kBlock + c * V::kLanes);
      const float* x = rows + row * dim;
      const float* word = words;
      for (std::int64_t j = 0; j < dim; ++j, word += kBlock) {
        typename V::Float u[kRegisters];
        for (int c = 0; c < kRegisters; ++c) u[c] = V::load(word + c * V::kLanes);
        for (int r = 0; r < kRows; ++r) {
          const typename V::Float value = V::set(x[r * dim + j]);
          for (int c = 0; c < kRegisters; ++c) sums[r][c] = V::fma(u[c], value, sums[r][c]);
        }
      }
      for (int r = 0; r < kRows; ++r)
        for (int c = 0; c < kRegisters; ++c)
          V::put(out + (row + r) * width + b * kBlock + c * V::kLanes, sums[r][c]);
    }
  }
}

template <class V, int kRegisters>
void residual_extend(const float* base, const float* const* minus, std::int64_t num_minus, const Along& along,
                     float score, std::int64_t num_blocks, std::int64_t turn, float* out, float* maxima) {
  constexpr int kBlock = kRegisters * V::kLanes;
  typename V::Float highest[kRegisters];
  for (int c = 0; c < kRegisters; ++c)
    highest[c] = V::load(maxima + (c + turn) % kRegisters * V::kLanes);
  for (std::int64_t k = 0; k < num_blocks * kBlock; k += kBlock) {
    typename V::Float sums[kRegisters];
    for (int c = 0; c < kRegisters; ++c)
      sums[c] = V::add(V::load(base + k + c * V::kLanes), V::set(score));
    for (std::int64_t i = 0; i < num_minus; ++i)
      for (int c = 0; c < kRegisters; ++c)
        sums[c] = V::subtract(sums[c], V::load(minus[i] + k + c * V::kLanes));
    for (int c = 0; along.products != nullptr && c < kRegisters; ++c) {
      const typename V::Float p = V::load(along.products + k + c * V::kLanes);
      sums[c] = V::fma(p, V::fma(p, V::set(-0.5F), V::set(along.error)), sums[c]);
    }
    for (int c = 0; c < kRegisters; ++c) {
      highest[c] = V::greatest(highest[c], sums[c]);
      V::put(out + k + c * V::kLanes, sums[c]);
    }
  }
  for (int c = 0; c < kRegisters; ++c)
    V::put(maxima + (c + turn) % kRegisters * V::kLanes, highest[c]);
}

template <class V, int kRegisters>
std::int64_t residual_collect(const float* values, std::int64_t count, float threshold,
                              std::int32_t* places) {
  constexpr int kBlock = kRegisters * V::kLanes;
  static_assert(kBlock <= 64, "a mask is one word");
  const typename V::Float least = V::set(threshold);
  std::int64_t found = 0;
  for (std::int64_t k = 0; k < count; k += kBlock) {
    std::uint64_t mask = 0;
    for (int c = 0; c < kRegisters; ++c)
      mask |= static_cast<std::uint64_t>(V::reaches(V::load(values + k + c * V::kLanes), least))
              << (c * V::kLanes);
    for (; mask != 0; mask &= mask - 1)
      places[found++] = static_cast<std::int32_t>(k + __builtin_ctzll(mask));
  }
  return found;
}

}  // namespace poeem
