// Loops over floats that surround a scan, compiled once per instruction set: the same operations in the same order, on as
// many numbers at a time as registers hold.
#pragma once

#include <cstdint>

namespace poeem {

// The extent of some numbers; `finite`: none of them is NaN or infinite.
struct Extent {
  float low, high;
  bool finite;
};

struct Arithmetic {
  // out[r] = sequential sum over j, from 0, of -(vector[j] - matrix[j, r])^2. matrix: [width, num_rows], out: [num_rows].
  void (*minus_squares)(const float* matrix, std::int64_t num_rows, std::int64_t width, const float* vector,
                        float* out);
  // values: [count], count >= 1.
  Extent (*extent)(const float* values, std::int64_t count);
  // out[i] = (high - values[i]) * inverse, rounded down, at most 255. high is not below any of them.
  void (*shortfalls)(const float* values, std::int64_t count, float high, float inverse, std::uint8_t* out);
  // out[i] = the lesser of entries[i] and entries[i + count]. entries: [2 * count], out: [count].
  void (*lesser_halves)(const std::uint8_t* entries, std::int64_t count, std::uint8_t* out);
  // How many of them are >= least; count < 2^31.
  std::int64_t (*count_at_least)(const float* values, std::int64_t count, float least);
  // How many of them are <= most; count: a multiple of kShortLanes, below 2^21.
  static constexpr std::int64_t kShortLanes = 32;
  std::int64_t (*count_at_most)(const std::uint16_t* values, std::int64_t count, std::uint16_t most);
  // masks[u], bit i: whether value i of unit u is <= most. values: [num_units, 64].
  void (*within)(const std::uint16_t* values, std::int64_t num_units, std::uint16_t most, std::uint64_t* masks);
  // out[i] = the place of values[i] once they are sorted, falling; of equal ones the earlier is first. No NaN, count < 2^15.
  void (*ranks)(const float* values, std::int64_t count, std::int32_t* out);
  // Drop what is below `least` and what is NaN, keep the order, return how many are left. numbers: [count], of the values.
  std::int64_t (*keep)(float* values, std::int64_t* numbers, std::int64_t count, float least);
  // The smallest k with the least distances[k] + (missed - products[k])^2, 0 where all are NaN. costs: [count], overwritten.
  std::int64_t (*cheapest)(const float* distances, const float* products, std::int64_t count, float missed, float* costs);
  // Bits that are set. words: [count].
  std::int64_t (*count_bits)(const std::uint64_t* words, std::int64_t count);
};

extern const Arithmetic kArithmeticScalar;
#if defined(__x86_64__)
extern const Arithmetic kArithmeticAvx2;
extern const Arithmetic kArithmeticAvx512;
#endif

}  // namespace poeem
