// 8-bit shortfalls of a query's table (kernels/bounds.h), and what limit of their sums stands for a threshold of scores.
#pragma once

#include <cmath>
#include <cstdint>

#include "arithmetic/arithmetic.h"
#include "kernels/bounds.h"
#include "poeem/index_view.h"
#include "poeem/scratch.h"

namespace poeem {

class BoundTable {
 public:
  explicit BoundTable(const Arithmetic& arithmetic) : arithmetic_(arithmetic) {}

  // Look at a table, [num_subspaces, table_stride(index)]. No list's bias is, in size, above max_abs_bias. Returns false
  // where these numbers are too near overflow for bounds to hold: score in float then.
  bool measure(const IndexView& index, const float* table, float max_abs_bias);

  // Whether a sum of all columns is one addition of bytes after the other.
  static bool in_one_group(const IndexView& index);

  // The same of a score already known to be among the k best.
  static bool is_moderate(float threshold);

  static constexpr std::int64_t kEvenShortfall = 127;  // the most there is of these:

  // Make shortfalls of the table that was measured last for a Shortlist: evenly spaced from the best entry to the worst, and
  // two of them within a byte. Of 8-bit codes with all 256 codewords.
  void build_evenly(const IndexView& index, const float* table);

  // Fill in group_columns, look and table for these; how far sums must lie apart for scores to differ; what 1 is worth.
  void aim_evenly(BoundTask& task) const;
  std::int64_t sums_apart(const IndexView& index) const;
  double step() const { return step_; }

  // No item of a larger sum, with its list's share below `bias`, reaches the score; where the metric uses no norms.
  std::int64_t largest_sum(float bias, float threshold) const;

  // Make the shortfalls of the table that was measured last. Items whose entries add up to less than `reach` need not
  // be told apart: the nearer it is to the best sum there could be, the finer the steps.
  void build(const IndexView& index, const float* table, double reach);

  // Fill in group_columns, look, table, limit, scale, offset, factor and shift for items of one bias that reach the
  // score `threshold`. look: kCodewords, or of 8-bit codes another. Returns false if no item can.
  bool aim(const IndexView& index, float bias, float threshold, int look, BoundTask& task) const;

  // Whether no item of this bias can reach the score; where the metric uses no norms.
  bool is_beyond_reach(float bias, float threshold) const {
    return static_cast<double>(bias) + highest_ + error_ + slack_of(threshold) < static_cast<double>(threshold);
  }

 private:
  // What a kernel's float arithmetic can hide of the threshold.
  static double slack_of(float threshold) { return std::abs(static_cast<double>(threshold)) * 0x1p-20; }

  void fill(const IndexView& index, const float* table);
  void build_less_sharp(std::int64_t num_columns);

  const Arithmetic& arithmetic_;
  ScratchVector<std::uint8_t> room_;
  // Shortfalls, inside room_: [num_columns, num_entries(look)], or of 4-bit codes [2 * num_columns, 16] and no others.
  std::uint8_t* tables_[kNumLooks] = {};
  ScratchVector<float> highs_;            // [num_subspaces], the best entry
  ScratchVector<float> ranges_;           // [num_subspaces], the best entry less the worst
  double highest_ = 0;                  // sum of the best entries
  double size_ = 0;                     // no partial sum is larger
  double step_ = 0;                     // what one unit of a sum is worth
  double error_ = 0;                    // what rounding, here and in the float sums, can hide at most
};

}  // namespace poeem
