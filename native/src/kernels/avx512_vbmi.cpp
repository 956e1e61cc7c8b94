// The scan with AVX-512 VBMI: 256 bounds in four registers, two permutes of 128 entries and a blend per 64 codes.
#include "avx512_common.h"
#include "kernels.h"

namespace poeem {
namespace {

struct ByteColumn {
  static constexpr std::int64_t kTableBytes = 256;
  explicit ByteColumn(const std::uint8_t* table)
      : t0(_mm512_loadu_si512(table)), t1(_mm512_loadu_si512(table + 64)),
        t2(_mm512_loadu_si512(table + 128)), t3(_mm512_loadu_si512(table + 192)) {}
  __m512i add(__m512i codes, __m512i bytes) const {
    return _mm512_adds_epu8(bytes, look_up(codes, _mm512_movepi8_mask(codes)));
  }
  // upper: which codes are above 127.
  __m512i look_up(__m512i codes, __mmask64 upper) const {
    // Both permutes overwrite their indices; without this, the compiler loads them again for each instead of copying.
    asm("" : "+v"(codes));
    const __m512i low = _mm512_permutex2var_epi8(t0, codes, t1);   // right where bit 7 is 0
    const __m512i high = _mm512_permutex2var_epi8(t2, codes, t3);  // right where it is 1
    return _mm512_mask_blend_epi8(upper, low, high);
  }
  __m512i t0, t1, t2, t3;
};

// Sums of a block for two queries, which share its codes and what is known of them. Codes `ahead` bytes further are fetched.
[[gnu::always_inline]] inline void sum_pair(const std::uint8_t* codes, std::int64_t ahead, const std::uint8_t* a,
                                            const std::uint8_t* b, std::int64_t num_columns, __m512i* bytes) {
  for (int u = 0; u < 8; ++u) bytes[u] = _mm512_setzero_si512();
  for (; num_columns > 0; --num_columns, codes += kColumnBytes, a += 256, b += 256) {
    const ByteColumn first(a), second(b);
    for (int u = 0; u < 4; ++u) {
      _mm_prefetch(reinterpret_cast<const char*>(codes + 64 * u + ahead), _MM_HINT_T0);
      const __m512i code = _mm512_loadu_si512(codes + 64 * u);
      const __mmask64 upper = _mm512_movepi8_mask(code);
      bytes[u] = _mm512_adds_epu8(bytes[u], first.look_up(code, upper));
      bytes[4 + u] = _mm512_adds_epu8(bytes[4 + u], second.look_up(code, upper));
    }
  }
}

void bound_block_pair(const BoundTask& a, const BoundTask& b, std::int64_t unit, std::uint64_t* masks_a,
                      std::uint64_t* masks_b) {
  const std::uint8_t* codes = unit_codes(a, unit);
  const std::int64_t ahead = fetch_distance(a, codes);
  __m512i bytes[8];
  if (one_group(a)) {
    sum_pair(codes, ahead, a.table, b.table, a.num_columns, bytes);
    const __m512i limit_a = _mm512_set1_epi8(byte_limit(a));
    const __m512i limit_b = _mm512_set1_epi8(byte_limit(b));
    for (int u = 0; u < 4; ++u) {
      masks_a[u] = _mm512_cmple_epu8_mask(bytes[u], limit_a);
      masks_b[u] = _mm512_cmple_epu8_mask(bytes[4 + u], limit_b);
    }
    return;
  }
  Sums sums[8];
  for (std::int64_t c = 0; c < a.num_columns; c += a.group_columns) {
    sum_pair(codes + c * kColumnBytes, ahead, a.table + c * 256, b.table + c * 256,
             smaller_of(a.group_columns, a.num_columns - c), bytes);
    for (int u = 0; u < 8; ++u) sums[u].add(bytes[u]);
  }
  for (int u = 0; u < 4; ++u) {
    masks_a[u] = mask_of(sums[u], a, unit + u);
    masks_b[u] = mask_of(sums[4 + u], b, unit + u);
  }
}

}  // namespace

void bound_bytes_avx512_vbmi(const BoundTask& task, std::uint64_t* masks) {
  bound_all<ByteColumn>(task, masks);
}

void bound_byte_pair_avx512_vbmi(const BoundTask& a, const BoundTask& b, std::uint64_t* masks_a,
                                 std::uint64_t* masks_b) {
  for (std::int64_t unit = a.begin; unit < a.end;
       unit += kUnitsOfBlock, masks_a += kUnitsOfBlock, masks_b += kUnitsOfBlock)
    bound_block_pair(a, b, unit, masks_a, masks_b);
}

}  // namespace poeem
