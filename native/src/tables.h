// Inner products to the last bit: sums in the order of their terms, without fused multiply-add, many at a time. Tables, biases and
// rotated queries are made of them.
#pragma once

#include <cstdint>

namespace poeem {

// out[q][c] = ((0 + vectors[q][0] * matrix[c, 0]) + vectors[q][1] * matrix[c, 1]) + ...
struct ProductTask {
  const float* matrix_t;          // panels of so many columns, the last one narrower, each [width, its columns]
  std::int64_t width;
  std::int64_t num_columns;
  std::int64_t panel;             // num_columns: one panel, [width, num_columns]
  const float* const* vectors;    // [num_vectors], each [width]
  float* const* out;              // [num_vectors], each [num_columns]
  std::int64_t num_vectors;
};

// A panel: its first column, and how many it has.
struct Panel {
  const float* matrix_t;          // [width, num_columns]
  std::int64_t first, num_columns;
};

constexpr int kLineFloats = 16;
constexpr int kAheadFloats = 2048;  // what hardware fetches by itself ends with each page

// kRows vectors x kRegisters registers of columns from column `c` of a panel on. A single vector takes as long as the matrix
// takes to come, so that is fetched ahead.
template <class V, int kRows, int kRegisters>
inline void ordered_block(const ProductTask& task, const Panel& panel, std::int64_t row, std::int64_t c) {
  typename V::Float sums[kRows][kRegisters];
  for (int r = 0; r < kRows; ++r)
    for (int i = 0; i < kRegisters; ++i) sums[r][i] = V::set(0.0F);
  const float* column = panel.matrix_t + c;
  const float* const* vectors = task.vectors + row;
  for (std::int64_t j = 0; j < task.width; ++j, column += panel.num_columns) {
    if constexpr (kRows == 1 && kRegisters > 1)
      for (int i = 0; i < kRegisters * V::kLanes; i += kLineFloats) __builtin_prefetch(column + kAheadFloats + i);
    typename V::Float u[kRegisters];
    for (int i = 0; i < kRegisters; ++i) u[i] = V::load(column + i * V::kLanes);
    for (int r = 0; r < kRows; ++r) {
      const typename V::Float value = V::set(vectors[r][j]);
      for (int i = 0; i < kRegisters; ++i)
        sums[r][i] = V::add(sums[r][i], V::multiply(value, u[i]));
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int i = 0; i < kRegisters; ++i) V::put(task.out[row + r] + panel.first + c + i * V::kLanes, sums[r][i]);
}

template <class V, int kRows, int kRegisters, int kAlone>
void panel_products(const ProductTask& task, const Panel& panel) {
  constexpr std::int64_t kWide = kRegisters * V::kLanes, kWidest = kAlone * V::kLanes;
  const std::int64_t whole = task.num_vectors / kRows * kRows, num_columns = panel.num_columns;
  std::int64_t c = 0;
  for (; c + kWide <= num_columns; c += kWide)
    for (std::int64_t row = 0; row < whole; row += kRows)
      ordered_block<V, kRows, kRegisters>(task, panel, row, c);
  for (std::int64_t row = 0; row < task.num_vectors; ++row) {
    std::int64_t from = row < whole ? c : 0;
    for (; from + kWidest <= num_columns; from += kWidest)
      ordered_block<V, 1, kAlone>(task, panel, row, from);
    for (; from + V::kLanes <= num_columns; from += V::kLanes)
      ordered_block<V, 1, 1>(task, panel, row, from);
    for (; from < num_columns; ++from) {
      float sum = 0.0F;
      for (std::int64_t j = 0; j < task.width; ++j)
        sum += task.vectors[row][j] * panel.matrix_t[j * num_columns + from];
      task.out[row][panel.first + from] = sum;
    }
  }
}

// V: as in residual/tile.h, and multiply. kAlone: registers of columns for a vector by itself.
template <class V, int kRows, int kRegisters, int kAlone>
void ordered_products(const ProductTask& task) {
  Panel panel{task.matrix_t, 0, 0};
  for (; panel.first < task.num_columns; panel.first += task.panel) {
    const std::int64_t left = task.num_columns - panel.first;
    panel.num_columns = left < task.panel ? left : task.panel;
    panel_products<V, kRows, kRegisters, kAlone>(task, panel);
    panel.matrix_t += panel.num_columns * task.width;
  }
}

}  // namespace poeem
