// The scan with AVX-512 BW only. Codewords and pairs: permutes of 16-bit words, each two bounds, of which the lowest bit of a
// code picks one. Quads: byte shuffles.
#include "avx512_common.h"
#include "kernels.h"

namespace poeem {
namespace {

// kLook: of all bits of a code, or of its pair.
template <Look kLook>
struct WordColumn {
  static constexpr std::int64_t kTableBytes = num_entries(kLook);
  static constexpr std::int64_t kUpper = kLook == kCodewords ? 128 : 0;
  explicit WordColumn(const std::uint8_t* table)
      : t0(_mm512_loadu_si512(table)), t1(_mm512_loadu_si512(table + 64)),
        t2(_mm512_loadu_si512(table + kUpper)), t3(_mm512_loadu_si512(table + kUpper + 64)) {}
  __m512i add(__m512i codes, __m512i bytes) const {
    const __m512i odd = look_up(_mm512_srli_epi16(codes, 8));
    const __m512i even = look_up(_mm512_and_si512(codes, _mm512_set1_epi16(255)));
    return _mm512_adds_epu8(bytes, _mm512_or_si512(even, _mm512_slli_epi16(odd, 8)));
  }
  // codes: 0..255 in 16-bit lanes; so is what comes back.
  __m512i look_up(__m512i codes) const {
    const __m512i word = _mm512_srli_epi16(codes, 1);  // 0..127; a permute looks at 6 bits of it
    __m512i pair = _mm512_permutex2var_epi16(t0, word, t1);
    if (kLook == kCodewords) {
      const __mmask32 upper = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(128));
      pair = _mm512_mask_blend_epi16(upper, pair, _mm512_permutex2var_epi16(t2, word, t3));
    }
    const __mmask32 second = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(1));
    return _mm512_and_si512(_mm512_mask_srli_epi16(pair, second, pair, 8), _mm512_set1_epi16(255));
  }
  __m512i t0, t1, t2, t3;
};

// Four byte shuffles of 16 entries of a table of quads, each but the first less, by exclusive or, the one before: after i
// subtractions of 16 from a code's lower six bits a shuffle gives something, bit 7 being clear, to those that were at least
// 16 i only.
struct QuadColumn {
  static constexpr std::int64_t kTableBytes = num_entries(kQuads);
  explicit QuadColumn(const std::uint8_t* table) : t0(NibbleColumn::broadcast(table)) {
    const __m512i second = NibbleColumn::broadcast(table + 16), third = NibbleColumn::broadcast(table + 32);
    t1 = _mm512_xor_si512(t0, second);
    t2 = _mm512_xor_si512(second, third);
    t3 = _mm512_xor_si512(third, NibbleColumn::broadcast(table + 48));
  }
  __m512i add(__m512i codes, __m512i bytes) const {
    const __m512i sixteen = _mm512_set1_epi8(16);
    const __m512i c0 = _mm512_and_si512(codes, _mm512_set1_epi8(63));
    const __m512i c1 = _mm512_sub_epi8(c0, sixteen), c2 = _mm512_sub_epi8(c1, sixteen), c3 = _mm512_sub_epi8(c2, sixteen);
    constexpr int kAll = 0x96;  // exclusive or of three
    const __m512i found = _mm512_ternarylogic_epi64(_mm512_shuffle_epi8(t0, c0), _mm512_shuffle_epi8(t1, c1),
                                                    _mm512_shuffle_epi8(t2, c2), kAll);
    return _mm512_adds_epu8(bytes, _mm512_xor_si512(found, _mm512_shuffle_epi8(t3, c3)));
  }
  __m512i t0, t1, t2, t3;
};

}  // namespace

void bound_bytes_avx512(const BoundTask& task, std::uint64_t* masks) {
  bound_all<WordColumn<kCodewords>>(task, masks);
}

void bound_pairs_avx512(const BoundTask& task, std::uint64_t* masks) {
  bound_all<WordColumn<kPairs>>(task, masks);
}

void bound_quads_avx512(const BoundTask& task, std::uint64_t* masks) {
  bound_all<QuadColumn>(task, masks);
}

void bound_nibbles_avx512(const BoundTask& task, std::uint64_t* masks) {
  bound_all<NibbleColumn>(task, masks);
}

void sum_bytes_avx512(const BoundTask& task, std::uint16_t* sums, std::uint64_t* masks) {
  sum_all<WordColumn<kCodewords>>(task, sums, masks);
}

}  // namespace poeem
