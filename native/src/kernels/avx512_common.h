// What both AVX-512 scans share: from codes to masks. Everything is static: each file compiles its own copy with its flags.
#pragma once

#include <immintrin.h>

#include "bounds.h"

namespace poeem {
namespace {

// Sums of 64 items over the groups so far. A group's bytes are added to `both` as 16-bit lanes, even + 256 * odd, and
// its odd bytes to `odd`: modulo 2^16 the even sums are what remains of `both`.
struct Sums {
  __m512i both = _mm512_setzero_si512();
  __m512i odd = _mm512_setzero_si512();
  void add(__m512i bytes) {
    both = _mm512_add_epi16(both, bytes);
    odd = _mm512_add_epi16(odd, _mm512_srli_epi16(bytes, 8));
  }
  __m512i even() const { return _mm512_sub_epi16(both, _mm512_slli_epi16(odd, 8)); }
};

struct InOrder {
  __m512i first, second;  // of items 0-31 and 32-63
};

[[gnu::always_inline]] inline InOrder in_order(const Sums& sums) {
  const __m512i even = sums.even();
  const __m512i low = _mm512_unpacklo_epi16(even, sums.odd);   // items 0-7, 16-23, 32-39, 48-55
  const __m512i high = _mm512_unpackhi_epi16(even, sums.odd);  // items 8-15, 24-31, 40-47, 56-63
  return {_mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), high),
          _mm512_permutex2var_epi64(low, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), high)};
}

__mmask16 passes_with_norms(__m256i sums, const float* norms, const BoundTask& task) {
  const __m512 bound = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums)),
                                        _mm512_set1_ps(task.scale), _mm512_set1_ps(task.offset));
  const __m512 norm = _mm512_loadu_ps(norms);
  const __m512 wanted =
      _mm512_fmadd_ps(norm, _mm512_set1_ps(task.factor), _mm512_set1_ps(task.shift));
  return static_cast<__mmask16>(_mm512_cmp_ps_mask(bound, wanted, _CMP_GE_OQ) |
                                _mm512_cmp_ps_mask(norm, _mm512_setzero_ps(), _CMP_EQ_OQ));
}

// Inline, or the sums would go through memory.
[[gnu::always_inline]] inline std::uint64_t mask_of(const Sums& sums, const BoundTask& task, std::int64_t unit) {
  if (task.norms == nullptr) {
    const __m512i even = sums.even();
    // What a sum is above the limit, as bytes in the order of the items: 0 for those that pass.
    const __m512i limit = _mm512_set1_epi16(static_cast<short>(task.limit));
    const __m512i most = _mm512_set1_epi16(255);
    const __m512i evens = _mm512_min_epu16(_mm512_subs_epu16(even, limit), most);
    const __m512i odds = _mm512_min_epu16(_mm512_subs_epu16(sums.odd, limit), most);
    const __m512i above = _mm512_or_si512(evens, _mm512_slli_epi16(odds, 8));
    return _mm512_testn_epi8_mask(above, above);
  }
  const auto [first, second] = in_order(sums);
  const float* norms = task.norms + unit * 64;
  const std::uint64_t a = passes_with_norms(_mm512_castsi512_si256(first), norms, task);
  const std::uint64_t b = passes_with_norms(_mm512_extracti64x4_epi64(first, 1), norms + 16, task);
  const std::uint64_t c = passes_with_norms(_mm512_castsi512_si256(second), norms + 32, task);
  const std::uint64_t d = passes_with_norms(_mm512_extracti64x4_epi64(second, 1), norms + 48, task);
  return a | (b << 16) | (c << 32) | (d << 48);
}

template <Fetch kFetch>
[[gnu::always_inline]] inline void fetch(const std::uint8_t* codes) {
  if constexpr (kFetch == Fetch::kFirstLevel) _mm_prefetch(reinterpret_cast<const char*>(codes), _MM_HINT_T0);
  if constexpr (kFetch == Fetch::kSecondLevel) _mm_prefetch(reinterpret_cast<const char*>(codes), _MM_HINT_T1);
}

// Sums of the bytes of columns [begin, end) for kUnits units, whose look-ups share the registers that hold a table. Codes
// `ahead` bytes further are fetched.
// Column: built from a table of kTableBytes; add(codes, bytes) looks 64 codes up and adds what it finds, saturating.
template <class Column, int kUnits, Fetch kFetch>
[[gnu::always_inline]] inline void sum_columns(const std::uint8_t* codes, std::int64_t ahead, const std::uint8_t* table,
                                               std::int64_t begin, std::int64_t end, __m512i* bytes) {
#pragma GCC unroll 8
  for (int u = 0; u < kUnits; ++u) bytes[u] = _mm512_setzero_si512();
  codes += begin * kColumnBytes, table += begin * Column::kTableBytes;
  for (; begin < end; ++begin, codes += kColumnBytes, table += Column::kTableBytes) {
    const Column column(table);
#pragma GCC unroll 8
    for (int u = 0; u < kUnits; ++u) {
      fetch<kFetch>(codes + 64 * u + ahead);
      bytes[u] = column.add(_mm512_loadu_si512(codes + 64 * u), bytes[u]);
    }
  }
}

// The same of all columns, group by group.
template <class Column, int kUnits, Fetch kFetch>
[[gnu::always_inline]] inline void sum_groups(const BoundTask& task, const std::uint8_t* codes, std::int64_t ahead, Sums* sums) {
  __m512i bytes[kUnits];
  for (std::int64_t c = 0; c < task.num_columns; c += task.group_columns) {
    sum_columns<Column, kUnits, kFetch>(codes, ahead, task.table, c,
                                        smaller_of(c + task.group_columns, task.num_columns), bytes);
#pragma GCC unroll 8
    for (int u = 0; u < kUnits; ++u) sums[u].add(bytes[u]);
  }
}

template <class Column, int kUnits, bool kOneGroup, Fetch kFetch>
void bound_some(const BoundTask& task, std::int64_t unit, std::uint64_t* masks) {
  const std::uint8_t* codes = unit_codes(task, unit);
  const std::int64_t ahead = fetch_distance(task, codes);
  if (kOneGroup) {
    __m512i bytes[kUnits];
    sum_columns<Column, kUnits, kFetch>(codes, ahead, task.table, 0, task.num_columns, bytes);
    const __m512i limit = _mm512_set1_epi8(byte_limit(task));
#pragma GCC unroll 8
    for (int u = 0; u < kUnits; ++u) masks[u] = _mm512_cmple_epu8_mask(bytes[u], limit);
    return;
  }
  Sums sums[kUnits];
  sum_groups<Column, kUnits, kFetch>(task, codes, ahead, sums);
#pragma GCC unroll 8
  for (int u = 0; u < kUnits; ++u) masks[u] = mask_of(sums[u], task, unit + u);
}

// Lists begin and end within blocks.
template <class Column, bool kOneGroup, Fetch kFetch>
void bound_units(const BoundTask& task, std::uint64_t* masks) {
  for (std::int64_t unit = task.begin; unit < task.end;) {
    const std::int64_t count = smaller_of(kUnitsOfBlock - unit % kUnitsOfBlock, task.end - unit);
    switch (count) {
      case 4: bound_some<Column, 4, kOneGroup, kFetch>(task, unit, masks); break;
      case 3: bound_some<Column, 3, kOneGroup, kFetch>(task, unit, masks); break;
      case 2: bound_some<Column, 2, kOneGroup, kFetch>(task, unit, masks); break;
      default: bound_some<Column, 1, kOneGroup, kFetch>(task, unit, masks); break;
    }
    unit += count, masks += count;
  }
}

template <class Column, Fetch kFetch>
void bound_fetching(const BoundTask& task, std::uint64_t* masks) {
  if (one_group(task)) {
    bound_units<Column, true, kFetch>(task, masks);
  } else {
    bound_units<Column, false, kFetch>(task, masks);
  }
}

template <class Column>
void bound_all(const BoundTask& task, std::uint64_t* masks) {
  switch (task.fetch) {
    case Fetch::kSecondLevel: return bound_fetching<Column, Fetch::kSecondLevel>(task, masks);
    case Fetch::kNowhere: return bound_fetching<Column, Fetch::kNowhere>(task, masks);
    default: return bound_fetching<Column, Fetch::kFirstLevel>(task, masks);
  }
}

// Sums of kUnits units as they are, in the order of the items, and what is within the limit.
template <class Column, int kUnits, Fetch kFetch>
void sum_some(const BoundTask& task, std::int64_t unit, std::uint16_t* out, std::uint64_t* masks) {
  const std::uint8_t* codes = unit_codes(task, unit);
  const std::int64_t ahead = fetch_distance(task, codes);
  Sums sums[kUnits];
  sum_groups<Column, kUnits, kFetch>(task, codes, ahead, sums);
  const __m512i limit = _mm512_set1_epi16(static_cast<short>(task.limit));
#pragma GCC unroll 8
  for (int u = 0; u < kUnits; ++u, out += 64) {
    const InOrder items = in_order(sums[u]);
    _mm512_storeu_si512(out, items.first);
    _mm512_storeu_si512(out + 32, items.second);
    masks[u] = _mm512_cmple_epu16_mask(items.first, limit) |
               static_cast<std::uint64_t>(_mm512_cmple_epu16_mask(items.second, limit)) << 32;
  }
}

template <class Column, Fetch kFetch>
void sum_fetching(const BoundTask& task, std::uint16_t* sums, std::uint64_t* masks) {
  for (std::int64_t unit = task.begin; unit < task.end;) {
    const std::int64_t count = smaller_of(kUnitsOfBlock - unit % kUnitsOfBlock, task.end - unit);
    switch (count) {
      case 4: sum_some<Column, 4, kFetch>(task, unit, sums, masks); break;
      case 3: sum_some<Column, 3, kFetch>(task, unit, sums, masks); break;
      case 2: sum_some<Column, 2, kFetch>(task, unit, sums, masks); break;
      default: sum_some<Column, 1, kFetch>(task, unit, sums, masks); break;
    }
    unit += count, masks += count, sums += 64 * count;
  }
}

template <class Column>
void sum_all(const BoundTask& task, std::uint16_t* sums, std::uint64_t* masks) {
  switch (task.fetch) {
    case Fetch::kSecondLevel: return sum_fetching<Column, Fetch::kSecondLevel>(task, sums, masks);
    case Fetch::kNowhere: return sum_fetching<Column, Fetch::kNowhere>(task, sums, masks);
    default: return sum_fetching<Column, Fetch::kFirstLevel>(task, sums, masks);
  }
}

// Two 4-bit codes to a byte: one byte shuffle each.
struct NibbleColumn {
  static constexpr std::int64_t kTableBytes = 32;
  explicit NibbleColumn(const std::uint8_t* table)
      : low(broadcast(table)), high(broadcast(table + 16)) {}
  __m512i add(__m512i codes, __m512i bytes) const {
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i first = _mm512_shuffle_epi8(low, _mm512_and_si512(codes, nibble));
    const __m512i second =
        _mm512_shuffle_epi8(high, _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble));
    return _mm512_adds_epu8(_mm512_adds_epu8(bytes, first), second);
  }
  static __m512i broadcast(const std::uint8_t* bytes) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
  }
  __m512i low, high;
};

}  // namespace
}  // namespace poeem
