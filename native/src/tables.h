// Inner products to the last bit: sums in the order of their terms, without fused multiply-add, many at a time. Tables, biases and
// rotated queries are made of them.
#pragma once

#include <cstdint>

namespace poeem {

// out[q][c] = ((0 + vectors[q][0] * matrix_t[0, c]) + vectors[q][1] * matrix_t[1, c]) + ...
struct ProductTask {
  const float* matrix_t;          // [width, num_columns]
  std::int64_t width;
  std::int64_t num_columns;
  const float* const* vectors;    // [num_vectors], each [width]
  float* const* out;              // [num_vectors], each [num_columns]
  std::int64_t num_vectors;
};

// kRows vectors x kRegisters registers of columns from column `c` on.
template <class V, int kRows, int kRegisters>
inline void ordered_block(const ProductTask& task, std::int64_t row, std::int64_t c) {
  typename V::Float sums[kRows][kRegisters];
  for (int r = 0; r < kRows; ++r)
    for (int i = 0; i < kRegisters; ++i) sums[r][i] = V::set(0.0F);
  const float* column = task.matrix_t + c;
  const float* const* vectors = task.vectors + row;
  for (std::int64_t j = 0; j < task.width; ++j, column += task.num_columns) {
    typename V::Float u[kRegisters];
    for (int i = 0; i < kRegisters; ++i) u[i] = V::load(column + i * V::kLanes);
    for (int r = 0; r < kRows; ++r) {
      const typename V::Float value = V::set(vectors[r][j]);
      for (int i = 0; i < kRegisters; ++i)
        sums[r][i] = V::add(sums[r][i], V::multiply(value, u[i]));
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int i = 0; i < kRegisters; ++i) V::put(task.out[row + r] + c + i * V::kLanes, sums[r][i]);
}

// V: as in residual/tile.h, and multiply. kAlone: registers of columns for a vector by itself.
template <class V, int kRows, int kRegisters, int kAlone>
void ordered_products(const ProductTask& task) {
  constexpr std::int64_t kWide = kRegisters * V::kLanes, kWidest = kAlone * V::kLanes;
  const std::int64_t whole = task.num_vectors / kRows * kRows;
  std::int64_t c = 0;
  for (; c + kWide <= task.num_columns; c += kWide)
    for (std::int64_t row = 0; row < whole; row += kRows)
      ordered_block<V, kRows, kRegisters>(task, row, c);
  for (std::int64_t row = 0; row < task.num_vectors; ++row) {
    std::int64_t from = row < whole ? c : 0;
    for (; from + kWidest <= task.num_columns; from += kWidest)
      ordered_block<V, 1, kAlone>(task, row, from);
    for (; from + V::kLanes <= task.num_columns; from += V::kLanes)
      ordered_block<V, 1, 1>(task, row, from);
    for (; from < task.num_columns; ++from) {
      float sum = 0.0F;
      for (std::int64_t j = 0; j < task.width; ++j)
        sum += task.vectors[row][j] * task.matrix_t[j * task.num_columns + from];
      task.out[row][from] = sum;
    }
  }
}

}  // namespace poeem
