// 8-bit upper bounds of a query's table, and what threshold of their sums stands for a threshold of scores.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/bounds.h"
#include "poeem/index_view.h"

namespace poeem {

class BoundTable {
 public:
  // table: [num_subspaces, table_stride(index)]. No list's bias is above max_bias or, in size, above
  // max_abs_bias. `threshold`: a score already known to be among the k best, finite.
  // Returns false where 8 bits cannot bound these numbers (they are near overflow): score in float then.
  bool build(const IndexView& index, const float* table, float max_bias, float max_abs_bias,
             float threshold);

  // Fill in table, threshold, scale, offset, factor and shift for items of one bias that reach the score
  // `threshold`. Returns false if no item can.
  bool aim(const IndexView& index, float bias, float threshold, BoundTask& task) const;

 private:
  std::vector<std::uint8_t> room_;
  std::uint8_t* bounds_ = nullptr;    // inside room_: [num_columns, 256] or [2 * num_columns, 16]
  std::vector<float> lows_;           // [num_subspaces], the least a bound can say
  std::vector<float> highs_;          // [num_subspaces], the most an entry says
  double step_ = 0;                   // what one unit of a sum is worth
  double base_ = 0;                   // sum of the lows
  double error_ = 0;                  // what rounding, here and in the float sums, can hide at most
};

}  // namespace poeem
