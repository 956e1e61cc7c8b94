// The scan with AVX-512 VBMI: 256 bounds in four registers, two permutes of 128 entries and a blend per 64 codes; or 128 bounds
// of pairs in two, one such permute; or 64 of quads in one, a permute of its bytes.
#include "avx512_common.h"
#include "kernels.h"

namespace poeem {
namespace {

struct ByteColumn {
  // What is known of codes, for several queries: which are above 127.
  using Known = __mmask64;
  static Known look_at(__m512i codes) { return _mm512_movepi8_mask(codes); }
  static constexpr std::int64_t kTableBytes = 256;
  explicit ByteColumn(const std::uint8_t* table)
      : t0(_mm512_loadu_si512(table)), t1(_mm512_loadu_si512(table + 64)),
        t2(_mm512_loadu_si512(table + 128)), t3(_mm512_loadu_si512(table + 192)) {}
  __m512i add(__m512i codes, __m512i bytes) const {
    return _mm512_adds_epu8(bytes, look_up(codes, look_at(codes)));
  }
  __m512i look_up(__m512i codes, __mmask64 upper) const {
    // Both permutes overwrite their indices; without this, the compiler loads them again for each instead of copying.
    asm("" : "+v"(codes));
    const __m512i low = _mm512_permutex2var_epi8(t0, codes, t1);   // right where bit 7 is 0
    const __m512i high = _mm512_permutex2var_epi8(t2, codes, t3);  // right where it is 1
    return _mm512_mask_blend_epi8(upper, low, high);
  }
  __m512i t0, t1, t2, t3;
};

struct Nothing {};

// A permute of 128 entries looks at the lower seven bits of a code: its pair.
struct PairColumn {
  using Known = Nothing;
  static Known look_at(__m512i) { return {}; }
  static constexpr std::int64_t kTableBytes = num_entries(kPairs);
  explicit PairColumn(const std::uint8_t* table) : t0(_mm512_loadu_si512(table)), t1(_mm512_loadu_si512(table + 64)) {}
  __m512i add(__m512i codes, __m512i bytes) const { return _mm512_adds_epu8(bytes, look_up(codes, {})); }
  __m512i look_up(__m512i codes, Known) const { return _mm512_permutex2var_epi8(t0, codes, t1); }
  __m512i t0, t1;
};

// A permute of 64 looks at the lower six: its quad.
struct QuadColumn {
  using Known = Nothing;
  static Known look_at(__m512i) { return {}; }
  static constexpr std::int64_t kTableBytes = num_entries(kQuads);
  explicit QuadColumn(const std::uint8_t* table) : entries(_mm512_loadu_si512(table)) {}
  __m512i add(__m512i codes, __m512i bytes) const { return _mm512_adds_epu8(bytes, look_up(codes, {})); }
  __m512i look_up(__m512i codes, Known) const { return _mm512_permutexvar_epi8(codes, entries); }
  __m512i entries;
};

// Sums of a block for two queries, which share its codes and what is known of them. Codes `ahead` bytes further are fetched.
template <class Column, Fetch kFetch>
[[gnu::always_inline]] inline void sum_two(const std::uint8_t* codes, std::int64_t ahead, const std::uint8_t* a,
                                            const std::uint8_t* b, std::int64_t num_columns, __m512i* bytes) {
#pragma GCC unroll 8
  for (int u = 0; u < 8; ++u) bytes[u] = _mm512_setzero_si512();
  for (; num_columns > 0; --num_columns, codes += kColumnBytes, a += Column::kTableBytes, b += Column::kTableBytes) {
    const Column first(a), second(b);
#pragma GCC unroll 8
    for (int u = 0; u < 4; ++u) {
      fetch<kFetch>(codes + 64 * u + ahead);
      const __m512i code = _mm512_loadu_si512(codes + 64 * u);
      const typename Column::Known known = Column::look_at(code);
      bytes[u] = _mm512_adds_epu8(bytes[u], first.look_up(code, known));
      bytes[4 + u] = _mm512_adds_epu8(bytes[4 + u], second.look_up(code, known));
    }
  }
}

template <class Column, Fetch kFetch>
void bound_block(const BoundTask& a, const BoundTask& b, std::int64_t unit, std::uint64_t* masks_a,
                 std::uint64_t* masks_b) {
  const std::uint8_t* codes = unit_codes(a, unit);
  const std::int64_t ahead = fetch_distance(a, codes);
  __m512i bytes[8];
  if (one_group(a)) {
    sum_two<Column, kFetch>(codes, ahead, a.table, b.table, a.num_columns, bytes);
    const __m512i limit_a = _mm512_set1_epi8(byte_limit(a));
    const __m512i limit_b = _mm512_set1_epi8(byte_limit(b));
#pragma GCC unroll 8
    for (int u = 0; u < 4; ++u) {
      masks_a[u] = _mm512_cmple_epu8_mask(bytes[u], limit_a);
      masks_b[u] = _mm512_cmple_epu8_mask(bytes[4 + u], limit_b);
    }
    return;
  }
  Sums sums[8];
  for (std::int64_t c = 0; c < a.num_columns; c += a.group_columns) {
    sum_two<Column, kFetch>(codes + c * kColumnBytes, ahead, a.table + c * Column::kTableBytes, b.table + c * Column::kTableBytes,
                     smaller_of(a.group_columns, a.num_columns - c), bytes);
#pragma GCC unroll 8
    for (int u = 0; u < 8; ++u) sums[u].add(bytes[u]);
  }
#pragma GCC unroll 8
  for (int u = 0; u < 4; ++u) {
    masks_a[u] = mask_of(sums[u], a, unit + u);
    masks_b[u] = mask_of(sums[4 + u], b, unit + u);
  }
}

template <class Column, Fetch kFetch>
void bound_blocks(const BoundTask& a, const BoundTask& b, std::uint64_t* masks_a, std::uint64_t* masks_b) {
  for (std::int64_t unit = a.begin; unit < a.end;
       unit += kUnitsOfBlock, masks_a += kUnitsOfBlock, masks_b += kUnitsOfBlock)
    bound_block<Column, kFetch>(a, b, unit, masks_a, masks_b);
}

template <class Column>
void bound_two(const BoundTask& a, const BoundTask& b, std::uint64_t* masks_a, std::uint64_t* masks_b) {
  switch (a.fetch) {
    case Fetch::kSecondLevel: return bound_blocks<Column, Fetch::kSecondLevel>(a, b, masks_a, masks_b);
    case Fetch::kNowhere: return bound_blocks<Column, Fetch::kNowhere>(a, b, masks_a, masks_b);
    default: return bound_blocks<Column, Fetch::kFirstLevel>(a, b, masks_a, masks_b);
  }
}

}  // namespace

void bound_bytes_avx512_vbmi(const BoundTask& task, std::uint64_t* masks) {
  bound_all<ByteColumn>(task, masks);
}

void bound_pairs_avx512_vbmi(const BoundTask& task, std::uint64_t* masks) {
  bound_all<PairColumn>(task, masks);
}

void bound_quads_avx512_vbmi(const BoundTask& task, std::uint64_t* masks) {
  bound_all<QuadColumn>(task, masks);
}

void bound_bytes_of_two_avx512_vbmi(const BoundTask& a, const BoundTask& b, std::uint64_t* masks_a,
                                    std::uint64_t* masks_b) {
  bound_two<ByteColumn>(a, b, masks_a, masks_b);
}

void bound_pairs_of_two_avx512_vbmi(const BoundTask& a, const BoundTask& b, std::uint64_t* masks_a,
                                    std::uint64_t* masks_b) {
  bound_two<PairColumn>(a, b, masks_a, masks_b);
}

void bound_quads_of_two_avx512_vbmi(const BoundTask& a, const BoundTask& b, std::uint64_t* masks_a,
                                    std::uint64_t* masks_b) {
  bound_two<QuadColumn>(a, b, masks_a, masks_b);
}

void sum_bytes_avx512_vbmi(const BoundTask& task, std::uint16_t* sums, std::uint64_t* masks) {
  sum_all<ByteColumn>(task, sums, masks);
}

}  // namespace poeem
