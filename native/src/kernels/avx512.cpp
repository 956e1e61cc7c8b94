// The scan with AVX-512 BW only: permutes of 16-bit words, each two bounds, of which the lowest bit of a code picks one.
#include "avx512_common.h"
#include "kernels.h"

namespace poeem {
namespace {

struct WordColumn {
  static constexpr std::int64_t kTableBytes = 256;
  explicit WordColumn(const std::uint8_t* table)
      : t0(_mm512_loadu_si512(table)), t1(_mm512_loadu_si512(table + 64)),
        t2(_mm512_loadu_si512(table + 128)), t3(_mm512_loadu_si512(table + 192)) {}
  __m512i add(__m512i codes, __m512i bytes) const {
    const __m512i odd = look_up(_mm512_srli_epi16(codes, 8));
    const __m512i even = look_up(_mm512_and_si512(codes, _mm512_set1_epi16(255)));
    return _mm512_adds_epu8(bytes, _mm512_or_si512(even, _mm512_slli_epi16(odd, 8)));
  }
  // codes: 0..255 in 16-bit lanes; so is what comes back.
  __m512i look_up(__m512i codes) const {
    const __m512i word = _mm512_srli_epi16(codes, 1);  // 0..127; a permute looks at 6 bits of it
    const __mmask32 upper = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(128));
    const __m512i pair = _mm512_mask_blend_epi16(upper, _mm512_permutex2var_epi16(t0, word, t1),
                                                 _mm512_permutex2var_epi16(t2, word, t3));
    const __mmask32 second = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(1));
    return _mm512_and_si512(_mm512_mask_srli_epi16(pair, second, pair, 8), _mm512_set1_epi16(255));
  }
  __m512i t0, t1, t2, t3;
};

}  // namespace

void bound_bytes_avx512(const BoundTask& task, std::uint64_t* masks) {
  bound_all<WordColumn>(task, masks);
}

void bound_nibbles_avx512(const BoundTask& task, std::uint64_t* masks) {
  bound_all<NibbleColumn>(task, masks);
}

}  // namespace poeem
