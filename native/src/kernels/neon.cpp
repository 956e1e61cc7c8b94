// The scan with NEON: a table of 256 bounds is four look-ups of 64 entries, one of pairs two, one of quads one;
// one out of range leaves what was found before.
#include <arm_neon.h>

#include "bounds.h"
#include "kernels.h"

namespace poeem {
namespace {

constexpr int kRegisters = 4;  // of 16 codes: a unit

// As in avx512_common.h, of 16 items.
struct Sums {
  uint16x8_t both = vdupq_n_u16(0);
  uint16x8_t odd = vdupq_n_u16(0);
  void add(uint8x16_t bytes) {
    both = vaddq_u16(both, vreinterpretq_u16_u8(bytes));
    odd = vsraq_n_u16(odd, vreinterpretq_u16_u8(bytes), 8);
  }
  uint16x8_t even() const { return vsubq_u16(both, vshlq_n_u16(odd, 8)); }
};

// Lanes of all ones where an item passes.
uint32x4_t passes_with_norms(uint16x4_t sums, const float* norms, const BoundTask& task) {
  const float32x4_t sum = vcvtq_f32_u32(vmovl_u16(sums));
  const float32x4_t norm = vld1q_f32(norms);
  const float32x4_t bound = vsubq_f32(vdupq_n_f32(task.offset), vmulq_n_f32(sum, task.scale));
  const float32x4_t wanted = vaddq_f32(vmulq_n_f32(norm, task.factor), vdupq_n_f32(task.shift));
  return vorrq_u32(vcgeq_f32(bound, wanted), vceqzq_f32(norm));
}

uint16x8_t passes_with_norms(uint16x8_t sums, const float* norms, const BoundTask& task) {
  return vcombine_u16(vmovn_u32(passes_with_norms(vget_low_u16(sums), norms, task)),
                      vmovn_u32(passes_with_norms(vget_high_u16(sums), norms + 4, task)));
}

// Bytes of all ones where an item passes, in the order of items.
uint8x16_t passes(const Sums& sums, const float* norms, const BoundTask& task) {
  const uint16x8_t even = sums.even();
  if (norms == nullptr) {
    const uint16x8_t limit = vdupq_n_u16(task.limit);
    return vreinterpretq_u8_u16(vsliq_n_u16(vcleq_u16(even, limit), vcleq_u16(sums.odd, limit), 8));
  }
  const uint16x8_t first = passes_with_norms(vzip1q_u16(even, sums.odd), norms, task);
  const uint16x8_t second = passes_with_norms(vzip2q_u16(even, sums.odd), norms + 8, task);
  return vcombine_u8(vmovn_u16(first), vmovn_u16(second));
}

// One bit of each of 64 bytes, all ones or zeros: bit i of byte i mod 8 stays, then neighbours are added three times.
std::uint64_t bits_of(const uint8x16_t* bytes) {
  const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
  const uint8x16_t low = vpaddq_u8(vandq_u8(bytes[0], bit), vandq_u8(bytes[1], bit));
  const uint8x16_t high = vpaddq_u8(vandq_u8(bytes[2], bit), vandq_u8(bytes[3], bit));
  const uint8x16_t quarters = vpaddq_u8(low, high);
  return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(quarters, quarters)), 0);
}

struct ByteColumn {
  static constexpr std::int64_t kTableBytes = 256;
  static void add(const std::uint8_t* codes, const std::uint8_t* table, uint8x16_t* bytes) {
    uint8x16_t code[kRegisters], found[kRegisters];
    for (int r = 0; r < kRegisters; ++r) {
      code[r] = vld1q_u8(codes + 16 * r);
      found[r] = vdupq_n_u8(0);
    }
    for (int part = 0; part < 4; ++part) {
      const uint8x16x4_t entries = vld1q_u8_x4(table + 64 * part);
      // Codes of other parts wrap around to beyond 63, and those leave `found` as it is.
      for (int r = 0; r < kRegisters; ++r) {
        found[r] = vqtbx4q_u8(found[r], entries, code[r]);
        code[r] = vsubq_u8(code[r], vdupq_n_u8(64));
      }
    }
    for (int r = 0; r < kRegisters; ++r) bytes[r] = vqaddq_u8(bytes[r], found[r]);
  }
};

// Two look-ups: the lower seven bits of a code are its pair.
struct PairColumn {
  static constexpr std::int64_t kTableBytes = num_entries(kPairs);
  static void add(const std::uint8_t* codes, const std::uint8_t* table, uint8x16_t* bytes) {
    const uint8x16x4_t lower = vld1q_u8_x4(table), upper = vld1q_u8_x4(table + 64);
    for (int r = 0; r < kRegisters; ++r) {
      const uint8x16_t pair = vandq_u8(vld1q_u8(codes + 16 * r), vdupq_n_u8(127));
      const uint8x16_t found = vqtbl4q_u8(lower, pair);  // 0 where it is beyond 63
      bytes[r] = vqaddq_u8(bytes[r], vqtbx4q_u8(found, upper, vsubq_u8(pair, vdupq_n_u8(64))));
    }
  }
};

// One: the lower six are its quad.
struct QuadColumn {
  static constexpr std::int64_t kTableBytes = num_entries(kQuads);
  static void add(const std::uint8_t* codes, const std::uint8_t* table, uint8x16_t* bytes) {
    const uint8x16x4_t entries = vld1q_u8_x4(table);
    for (int r = 0; r < kRegisters; ++r) {
      const uint8x16_t quad = vandq_u8(vld1q_u8(codes + 16 * r), vdupq_n_u8(63));
      bytes[r] = vqaddq_u8(bytes[r], vqtbl4q_u8(entries, quad));
    }
  }
};

struct NibbleColumn {
  static constexpr std::int64_t kTableBytes = 32;
  static void add(const std::uint8_t* codes, const std::uint8_t* table, uint8x16_t* bytes) {
    const uint8x16_t first = vld1q_u8(table), second = vld1q_u8(table + 16);
    for (int r = 0; r < kRegisters; ++r) {
      const uint8x16_t code = vld1q_u8(codes + 16 * r);
      bytes[r] = vqaddq_u8(bytes[r], vqtbl1q_u8(first, vandq_u8(code, vdupq_n_u8(15))));
      bytes[r] = vqaddq_u8(bytes[r], vqtbl1q_u8(second, vshrq_n_u8(code, 4)));
    }
  }
};

// bytes: sums over columns [begin, end) of a unit.
template <class Column>
void sum_columns(const std::uint8_t* codes, const std::uint8_t* table, std::int64_t begin, std::int64_t end,
                 uint8x16_t* bytes) {
  for (int r = 0; r < kRegisters; ++r) bytes[r] = vdupq_n_u8(0);
  for (std::int64_t c = begin; c < end; ++c)
    Column::add(codes + c * kColumnBytes, table + c * Column::kTableBytes, bytes);
}

template <class Column>
std::uint64_t bound_unit(const BoundTask& task, std::int64_t unit) {
  const std::uint8_t* codes = unit_codes(task, unit);
  uint8x16_t bytes[kRegisters], found[kRegisters];
  if (one_group(task)) {
    sum_columns<Column>(codes, task.table, 0, task.num_columns, bytes);
    const uint8x16_t limit = vdupq_n_u8(static_cast<std::uint8_t>(byte_limit(task)));
    for (int r = 0; r < kRegisters; ++r) found[r] = vcleq_u8(bytes[r], limit);
    return bits_of(found);
  }
  Sums sums[kRegisters];
  for (std::int64_t c = 0; c < task.num_columns; c += task.group_columns) {
    sum_columns<Column>(codes, task.table, c, smaller_of(c + task.group_columns, task.num_columns), bytes);
    for (int r = 0; r < kRegisters; ++r) sums[r].add(bytes[r]);
  }
  const float* norms = task.norms == nullptr ? nullptr : task.norms + unit * 64;
  for (int r = 0; r < kRegisters; ++r)
    found[r] = passes(sums[r], norms == nullptr ? nullptr : norms + 16 * r, task);
  return bits_of(found);
}

template <class Column>
void bound_all(const BoundTask& task, std::uint64_t* masks) {
  for (std::int64_t unit = task.begin; unit < task.end; ++unit) *masks++ = bound_unit<Column>(task, unit);
}

}  // namespace

void bound_bytes_neon(const BoundTask& task, std::uint64_t* masks) {
  bound_all<ByteColumn>(task, masks);
}

void bound_pairs_neon(const BoundTask& task, std::uint64_t* masks) {
  bound_all<PairColumn>(task, masks);
}

void bound_quads_neon(const BoundTask& task, std::uint64_t* masks) {
  bound_all<QuadColumn>(task, masks);
}

void bound_nibbles_neon(const BoundTask& task, std::uint64_t* masks) {
  bound_all<NibbleColumn>(task, masks);
}

}  // namespace poeem
