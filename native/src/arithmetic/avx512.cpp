#include <immintrin.h>

#include "loops.h"

namespace poeem {
namespace {

// What no compiler makes of the loop: a register's share of it at once. Writing never overtakes reading.
std::int64_t keep_by_registers(float* values, std::int64_t* numbers, std::int64_t count, float least) {
  const __m512 limit = _mm512_set1_ps(least);
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < count; i += 16) {
    const auto there = static_cast<__mmask16>(count - i < 16 ? (1 << (count - i)) - 1 : 0xFFFF);
    const __m512 value = _mm512_maskz_loadu_ps(there, values + i);
    const __m512i low = _mm512_maskz_loadu_epi64(static_cast<__mmask8>(there), numbers + i);
    const __m512i high = _mm512_maskz_loadu_epi64(static_cast<__mmask8>(there >> 8), numbers + i + 8);
    const __mmask16 wanted = _mm512_mask_cmp_ps_mask(there, value, limit, _CMP_GE_OQ);
    const int lows = __builtin_popcount(wanted & 0xFF), highs = __builtin_popcount(wanted >> 8);
    // Into registers first: compressing straight into memory takes many times as long.
    _mm512_mask_storeu_ps(values + kept, static_cast<__mmask16>((1 << (lows + highs)) - 1), _mm512_maskz_compress_ps(wanted, value));
    _mm512_mask_storeu_epi64(numbers + kept, static_cast<__mmask8>((1 << lows) - 1),
                             _mm512_maskz_compress_epi64(static_cast<__mmask8>(wanted), low));
    _mm512_mask_storeu_epi64(numbers + kept + lows, static_cast<__mmask8>((1 << highs) - 1),
                             _mm512_maskz_compress_epi64(static_cast<__mmask8>(wanted >> 8), high));
    kept += lows + highs;
  }
  return kept;
}

void within_by_registers(const std::uint16_t* values, std::int64_t num_units, std::uint16_t most, std::uint64_t* masks) {
  const __m512i limit = _mm512_set1_epi16(static_cast<short>(most));
  for (std::int64_t u = 0; u < num_units; ++u, values += 64)
    masks[u] = _mm512_cmple_epu16_mask(_mm512_loadu_si512(values), limit) |
               static_cast<std::uint64_t>(_mm512_cmple_epu16_mask(_mm512_loadu_si512(values + 32), limit)) << 32;
}

// Places of 128 numbers at a time, as if none were equal to another. Returns the sum of all places.
std::int64_t strict_ranks(const float* values, std::int64_t count, std::int32_t* out) {
  constexpr int kRegisters = 8;
  const __m512i one = _mm512_set1_epi32(1);
  __m512i sum = _mm512_setzero_si512();
  for (std::int64_t first = 0; first < count; first += 16 * kRegisters) {
    __m512 own[kRegisters];
    __m512i before[kRegisters];
    __mmask16 there[kRegisters];
    for (int r = 0; r < kRegisters; ++r) {
      const std::int64_t left = count - first - 16 * r;
      there[r] = static_cast<__mmask16>(left >= 16 ? 0xFFFF : left > 0 ? (1 << left) - 1 : 0);
      own[r] = _mm512_maskz_loadu_ps(there[r], values + first + 16 * r);
      before[r] = _mm512_setzero_si512();
    }
    for (std::int64_t j = 0; j < count; ++j) {
      const __m512 other = _mm512_set1_ps(values[j]);
      for (int r = 0; r < kRegisters; ++r)
        before[r] = _mm512_mask_add_epi32(before[r], _mm512_cmp_ps_mask(other, own[r], _CMP_GT_OQ), before[r], one);
    }
    for (int r = 0; r < kRegisters; ++r) {
      _mm512_mask_storeu_epi32(out + first + 16 * r, there[r], before[r]);
      sum = _mm512_mask_add_epi32(sum, there[r], sum, before[r]);
    }
  }
  return _mm512_reduce_add_epi32(sum);
}

// Equal numbers, which are rare, would share a place: then the sum is not that of all places.
void ranks_by_registers(const float* values, std::int64_t count, std::int32_t* out) {
  if (strict_ranks(values, count, out) != count * (count - 1) / 2) ranks(values, count, out);
}

}  // namespace

const Arithmetic kArithmeticAvx512 = {reduce<MinusSquare>, extent, shortfalls, lesser_halves,
    count_at_least, count_at_most, within_by_registers, ranks_by_registers, keep_by_registers, cheapest, count_bits};

}  // namespace poeem
