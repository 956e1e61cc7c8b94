// Nearest centers, 64 points x 4 centers at a time. Built with -mavx512f.
#include <immintrin.h>

#include <limits>

#include "../kernels/kernels.h"

namespace poeem {
namespace {

struct Avx512 {
  using Float = __m512;
  using Int = __m512i;
  static constexpr int kLanes = 16;
  static Float load(const float* p) { return _mm512_loadu_ps(p); }
  static Float set(float value) { return _mm512_set1_ps(value); }
  static Float lowest() { return _mm512_set1_ps(-std::numeric_limits<float>::infinity()); }
  static Int zero() { return _mm512_setzero_si512(); }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static void take_greater(Float sum, Float& best, Int& index, std::int32_t number) {
    const __mmask16 greater = _mm512_cmp_ps_mask(sum, best, _CMP_GT_OQ);
    best = _mm512_mask_mov_ps(best, greater, sum);
    index = _mm512_mask_mov_epi32(index, greater, _mm512_set1_epi32(number));
  }
  static void store(std::int32_t* p, Int index) { _mm512_storeu_si512(p, index); }
};

}  // namespace

const NearestTile kNearestAvx512 = {64, 4, nearest_tile<Avx512, 4, 4>};

}  // namespace poeem
