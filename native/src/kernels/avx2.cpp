// The scan with AVX2: 16 byte shuffles of 16 bounds each, of which a code's upper four bits have it add up those it needs;
// 8 of them for pairs, 4 for quads.
#include <immintrin.h>

#include "bounds.h"
#include "kernels.h"

namespace poeem {
namespace {

__m256i broadcast(const std::uint8_t* bytes) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
}

// As in avx512_common.h, of 32 items.
struct Sums {
  __m256i both = _mm256_setzero_si256();
  __m256i odd = _mm256_setzero_si256();
  void add(__m256i bytes) {
    both = _mm256_add_epi16(both, bytes);
    odd = _mm256_add_epi16(odd, _mm256_srli_epi16(bytes, 8));
  }
  __m256i even() const { return _mm256_sub_epi16(both, _mm256_slli_epi16(odd, 8)); }
};

unsigned passes_with_norms(__m128i sums, const float* norms, const BoundTask& task) {
  const __m256 bound =
      _mm256_sub_ps(_mm256_set1_ps(task.offset),
                    _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(sums)),
                                  _mm256_set1_ps(task.scale)));
  const __m256 norm = _mm256_loadu_ps(norms);
  const __m256 wanted = _mm256_add_ps(_mm256_mul_ps(norm, _mm256_set1_ps(task.factor)),
                                      _mm256_set1_ps(task.shift));
  const __m256 passes = _mm256_or_ps(_mm256_cmp_ps(bound, wanted, _CMP_GE_OQ),
                                     _mm256_cmp_ps(norm, _mm256_setzero_ps(), _CMP_EQ_OQ));
  return static_cast<unsigned>(_mm256_movemask_ps(passes));
}

// Inline, or the sums would go through memory.
[[gnu::always_inline]] inline unsigned mask_of(const Sums& sums, const BoundTask& task, const float* norms) {
  const __m256i even = sums.even();
  if (norms == nullptr) {
    const __m256i limit = _mm256_set1_epi16(static_cast<short>(task.limit));
    const __m256i evens = _mm256_cmpeq_epi16(_mm256_min_epu16(even, limit), even);
    const __m256i odds = _mm256_cmpeq_epi16(_mm256_min_epu16(sums.odd, limit), sums.odd);
    return static_cast<unsigned>(
        _mm256_movemask_epi8(_mm256_blendv_epi8(evens, odds, _mm256_set1_epi16(-256))));
  }
  const __m256i low = _mm256_unpacklo_epi16(even, sums.odd);   // items 0-7, 16-23
  const __m256i high = _mm256_unpackhi_epi16(even, sums.odd);  // items 8-15, 24-31
  return passes_with_norms(_mm256_castsi256_si128(low), norms, task) |
         (passes_with_norms(_mm256_castsi256_si128(high), norms + 8, task) << 8) |
         (passes_with_norms(_mm256_extracti128_si256(low, 1), norms + 16, task) << 16) |
         (passes_with_norms(_mm256_extracti128_si256(high, 1), norms + 24, task) << 24);
}

// Tables of kSize entries as so many of 16, each but the first of a table less, by exclusive or, the one before.
template <int kSize>
void put_differences(const std::uint8_t* tables, std::int64_t num_tables, std::uint8_t* out) {
  for (; num_tables > 0; --num_tables, tables += kSize, out += kSize) {
    __m128i before = _mm_setzero_si128();
    for (int i = 0; i < kSize; i += 16) {
      const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(tables + i));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm_xor_si128(entries, before));
      before = entries;
    }
  }
}

// A shuffle gives 0 where bit 7 of an index is set. So after i subtractions of 16 from a code's lower seven bits it gives
// something to those that were at least 16 i only, and the exclusive or of what it gives from differences is the entry.
struct ByteColumn {
  static constexpr std::int64_t kTableBytes = 256;  // of differences
  // Tables of 16 are loaded once for kRegisters registers of codes.
  template <int kRegisters>
  [[gnu::always_inline]] static void add(const std::uint8_t* codes, const std::uint8_t* table, __m256i* bytes) {
    const __m256i sixteen = _mm256_set1_epi8(16);
    __m256i rest[kRegisters], low[kRegisters], high[kRegisters];
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; ++r) {
      rest[r] = _mm256_and_si256(load(codes + 32 * r), _mm256_set1_epi8(127));
      low[r] = _mm256_shuffle_epi8(broadcast(table), rest[r]);
      high[r] = _mm256_shuffle_epi8(broadcast(table + 128), rest[r]);
    }
#pragma GCC unroll 7
    for (int i = 1; i < 8; ++i) {
      const __m256i lower = broadcast(table + 16 * i), upper = broadcast(table + 128 + 16 * i);
#pragma GCC unroll 8
      for (int r = 0; r < kRegisters; ++r) {
        rest[r] = _mm256_sub_epi8(rest[r], sixteen);
        low[r] = _mm256_xor_si256(low[r], _mm256_shuffle_epi8(lower, rest[r]));
        high[r] = _mm256_xor_si256(high[r], _mm256_shuffle_epi8(upper, rest[r]));
        asm("" : "+x"(low[r]), "+x"(high[r]));  // or the compiler puts this off, and what is added up into memory
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; ++r)
      bytes[r] = _mm256_adds_epu8(bytes[r], _mm256_blendv_epi8(low[r], high[r], load(codes + 32 * r)));
  }
  static __m256i load(const std::uint8_t* codes) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
  }
};

// The same of the lower seven bits, a code's pair.
struct PairColumn {
  static constexpr std::int64_t kTableBytes = num_entries(kPairs);  // of differences
  template <int kRegisters>
  [[gnu::always_inline]] static void add(const std::uint8_t* codes, const std::uint8_t* table, __m256i* bytes) {
    __m256i rest[kRegisters], found[kRegisters];
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; ++r) {
      rest[r] = _mm256_and_si256(ByteColumn::load(codes + 32 * r), _mm256_set1_epi8(127));
      found[r] = _mm256_shuffle_epi8(broadcast(table), rest[r]);
    }
#pragma GCC unroll 7
    for (int i = 1; i < 8; ++i) {
      const __m256i entries = broadcast(table + 16 * i);
#pragma GCC unroll 8
      for (int r = 0; r < kRegisters; ++r) {
        rest[r] = _mm256_sub_epi8(rest[r], _mm256_set1_epi8(16));
        found[r] = _mm256_xor_si256(found[r], _mm256_shuffle_epi8(entries, rest[r]));
        asm("" : "+x"(found[r]));  // as above
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; ++r) bytes[r] = _mm256_adds_epu8(bytes[r], found[r]);
  }
};

// And of the lower six, its quad.
struct QuadColumn {
  static constexpr std::int64_t kTableBytes = num_entries(kQuads);  // of differences
  template <int kRegisters>
  [[gnu::always_inline]] static void add(const std::uint8_t* codes, const std::uint8_t* table, __m256i* bytes) {
    const __m256i t0 = broadcast(table), t1 = broadcast(table + 16), t2 = broadcast(table + 32), t3 = broadcast(table + 48);
    const __m256i sixteen = _mm256_set1_epi8(16);
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; ++r) {
      const __m256i c0 = _mm256_and_si256(ByteColumn::load(codes + 32 * r), _mm256_set1_epi8(63));
      const __m256i c1 = _mm256_sub_epi8(c0, sixteen), c2 = _mm256_sub_epi8(c1, sixteen), c3 = _mm256_sub_epi8(c2, sixteen);
      const __m256i lower = _mm256_xor_si256(_mm256_shuffle_epi8(t0, c0), _mm256_shuffle_epi8(t1, c1));
      const __m256i upper = _mm256_xor_si256(_mm256_shuffle_epi8(t2, c2), _mm256_shuffle_epi8(t3, c3));
      bytes[r] = _mm256_adds_epu8(bytes[r], _mm256_xor_si256(lower, upper));
    }
  }
};

struct NibbleColumn {
  static constexpr std::int64_t kTableBytes = 32;
  template <int kRegisters>
  [[gnu::always_inline]] static void add(const std::uint8_t* codes, const std::uint8_t* table, __m256i* bytes) {
    const __m256i first = broadcast(table), second = broadcast(table + 16);
    const __m256i nibble = _mm256_set1_epi8(15);
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; ++r) {
      const __m256i code = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * r));
      bytes[r] = _mm256_adds_epu8(bytes[r], _mm256_shuffle_epi8(first, _mm256_and_si256(code, nibble)));
      bytes[r] = _mm256_adds_epu8(bytes[r], _mm256_shuffle_epi8(second, _mm256_and_si256(_mm256_srli_epi16(code, 4), nibble)));
    }
  }
};

// bytes: sums over columns [begin, end) of kRegisters halves of units.
template <class Column, int kRegisters>
[[gnu::always_inline]] inline void sum_columns(const std::uint8_t* codes, const std::uint8_t* table,
                                               std::int64_t begin, std::int64_t end, __m256i* bytes) {
#pragma GCC unroll 8
  for (int r = 0; r < kRegisters; ++r) bytes[r] = _mm256_setzero_si256();
  for (std::int64_t c = begin; c < end; ++c)
    Column::template add<kRegisters>(codes + c * kColumnBytes, table + c * Column::kTableBytes, bytes);
}

std::uint64_t both_halves(unsigned first, unsigned second) {
  return first | (static_cast<std::uint64_t>(second) << 32);
}

unsigned mask_of(__m256i bytes, __m256i limit) {
  return static_cast<unsigned>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(bytes, limit), bytes)));
}

// kUnits units of a block.
template <class Column, int kUnits, bool kOneGroup>
void bound_units(const BoundTask& task, std::int64_t unit, std::uint64_t* out) {
  constexpr int kRegisters = 2 * kUnits;
  const std::uint8_t* codes = unit_codes(task, unit);
  __m256i bytes[kRegisters];
  if (kOneGroup) {
    sum_columns<Column, kRegisters>(codes, task.table, 0, task.num_columns, bytes);
    const __m256i limit = _mm256_set1_epi8(byte_limit(task));
#pragma GCC unroll 8
    for (int u = 0; u < kUnits; ++u) out[u] = both_halves(mask_of(bytes[2 * u], limit), mask_of(bytes[2 * u + 1], limit));
    return;
  }
  Sums sums[kRegisters];
  for (std::int64_t c = 0; c < task.num_columns; c += task.group_columns) {
    sum_columns<Column, kRegisters>(codes, task.table, c, smaller_of(c + task.group_columns, task.num_columns), bytes);
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; ++r) sums[r].add(bytes[r]);
  }
#pragma GCC unroll 8
  for (int u = 0; u < kUnits; ++u) {
    const float* norms = task.norms == nullptr ? nullptr : task.norms + (unit + u) * 64;
    out[u] = both_halves(mask_of(sums[2 * u], task, norms),
                         mask_of(sums[2 * u + 1], task, norms == nullptr ? nullptr : norms + 32));
  }
}

// A block of 4-bit codes, column by column: memory is read in its order, and a table is loaded once for four units.
void bound_nibble_block(const BoundTask& task, std::int64_t unit, std::uint64_t* masks) {
  constexpr int kRegisters = 2 * kUnitsOfBlock;
  const std::uint8_t* codes = unit_codes(task, unit);
  const std::uint8_t* table = task.table;
  const __m256i nibble = _mm256_set1_epi8(15), limit = _mm256_set1_epi8(byte_limit(task));
  __m256i bytes[kRegisters];
#pragma GCC unroll 8
  for (int r = 0; r < kRegisters; ++r) bytes[r] = _mm256_setzero_si256();
  for (std::int64_t c = 0; c < task.num_columns; ++c, codes += kColumnBytes, table += NibbleColumn::kTableBytes) {
    const __m256i first = broadcast(table), second = broadcast(table + 16);
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; ++r) {
      const __m256i code = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * r));
      bytes[r] = _mm256_adds_epu8(bytes[r], _mm256_shuffle_epi8(first, _mm256_and_si256(code, nibble)));
      bytes[r] = _mm256_adds_epu8(bytes[r], _mm256_shuffle_epi8(second, _mm256_and_si256(_mm256_srli_epi16(code, 4), nibble)));
    }
  }
#pragma GCC unroll 8
  for (int u = 0; u < kUnitsOfBlock; ++u) masks[u] = both_halves(mask_of(bytes[2 * u], limit), mask_of(bytes[2 * u + 1], limit));
}

// Two units of a block at a time, which share the loads of tables.
template <class Column, bool kOneGroup>
void bound_some(const BoundTask& task, std::uint64_t* masks) {
  for (std::int64_t unit = task.begin; unit < task.end;) {
    const bool two = unit % 2 == 0 && unit + 2 <= task.end;
    if (two) {
      bound_units<Column, 2, kOneGroup>(task, unit, masks);
    } else {
      bound_units<Column, 1, kOneGroup>(task, unit, masks);
    }
    unit += two ? 2 : 1, masks += two ? 2 : 1;
  }
}

template <class Column>
void bound_all(const BoundTask& task, std::uint64_t* masks) {
  if (one_group(task)) {
    bound_some<Column, true>(task, masks);
  } else {
    bound_some<Column, false>(task, masks);
  }
}

// kSize: entries of a table of which one is the first.
template <class Column, int kSize>
void bound_by_differences(const BoundTask& task, std::uint64_t* masks) {
  std::uint8_t differences[kMaxBoundSubspaces * Column::kTableBytes];  // at most 64 KB of the stack
  put_differences<kSize>(task.table, task.num_columns * (Column::kTableBytes / kSize), differences);
  BoundTask changed = task;
  changed.table = differences;
  bound_all<Column>(changed, masks);
}

}  // namespace

void bound_bytes_avx2(const BoundTask& task, std::uint64_t* masks) {
  bound_by_differences<ByteColumn, 128>(task, masks);
}

void bound_pairs_avx2(const BoundTask& task, std::uint64_t* masks) {
  bound_by_differences<PairColumn, 128>(task, masks);
}

void bound_quads_avx2(const BoundTask& task, std::uint64_t* masks) {
  bound_by_differences<QuadColumn, 64>(task, masks);
}

void bound_nibbles_avx2(const BoundTask& task, std::uint64_t* masks) {
  if (!one_group(task)) return bound_all<NibbleColumn>(task, masks);
  for (std::int64_t unit = task.begin; unit < task.end;) {
    const bool whole = unit % kUnitsOfBlock == 0 && unit + kUnitsOfBlock <= task.end;
    if (whole) {
      bound_nibble_block(task, unit, masks);
    } else {
      bound_units<NibbleColumn, 1, true>(task, unit, masks);
    }
    const std::int64_t done = whole ? kUnitsOfBlock : 1;
    unit += done, masks += done;
  }
}

}  // namespace poeem
