// The fast scan: 8-bit upper bounds of what codewords add to a score, summed in 16 bits, compared with a threshold. What
// it lets through is scored in float (row_scan.cpp), so it need only never lose anything.
#pragma once

#include <cstdint>

namespace poeem {

// No sum may leave 16 bits.
constexpr std::int64_t kMaxBoundSubspaces = 65535 / 255;

struct BoundTask {
  const std::uint8_t* codes;   // [num_blocks, num_columns, 256]
  std::int64_t begin, end;     // units of 64 items, four to a block
  std::int64_t num_columns;
  const std::uint8_t* table;   // 8-bit codes: [num_columns, 256]; 4-bit: [2 * num_columns, 16]
  std::uint16_t threshold;     // without norms: an item passes if its sum is >= this

  // With norms: it passes if scale * sum + offset >= factor * norm + shift, or if its norm is 0.
  const float* norms;          // [end * 64] or null
  float scale, offset, factor, shift;
};

constexpr std::int64_t kUnitsOfBlock = 4;
constexpr std::int64_t kColumnBytes = 256;

// The codes of a unit in column 0; the next column is kColumnBytes further.
static inline const std::uint8_t* unit_codes(const BoundTask& task, std::int64_t unit) {
  return task.codes + unit / kUnitsOfBlock * task.num_columns * kColumnBytes +
         unit % kUnitsOfBlock * 64;
}

// Bits 0..31 to the even places, the order of the even bytes of a register.
static inline std::uint64_t spread_bits(std::uint64_t x) {
  x = (x | (x << 16)) & 0x0000FFFF0000FFFF;
  x = (x | (x << 8)) & 0x00FF00FF00FF00FF;
  x = (x | (x << 4)) & 0x0F0F0F0F0F0F0F0F;
  x = (x | (x << 2)) & 0x3333333333333333;
  return (x | (x << 1)) & 0x5555555555555555;
}

}  // namespace poeem
