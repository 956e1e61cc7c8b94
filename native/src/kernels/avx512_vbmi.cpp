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
  void add(__m512i codes, Sums& sums) const {
    // Both permutes overwrite their indices; without this, the compiler loads them again for each instead of copying.
    asm("" : "+v"(codes));
    const __m512i low = _mm512_permutex2var_epi8(t0, codes, t1);   // right where bit 7 is 0
    const __m512i high = _mm512_permutex2var_epi8(t2, codes, t3);  // right where it is 1
    sums.add(_mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high));
  }
  __m512i t0, t1, t2, t3;
};

}  // namespace

void bound_bytes_avx512_vbmi(const BoundTask& task, std::uint64_t* masks) {
  bound_all<ByteColumn>(task, masks);
}

}  // namespace poeem
