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
  static void put(float* p, Float a) { _mm512_storeu_ps(p, a); }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float subtract(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Float greatest(Float a, Float b) { return _mm512_max_ps(a, b); }
  static unsigned reaches(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
};

}  // namespace

const NearestTile kNearestAvx512 = {64, 4, nearest_tile<Avx512, 4, 4>};

const ResidualTile kResidualAvx512 = {6, 64, residual_products<Avx512, 6, 4>,
                                    residual_extend<Avx512, 4>, residual_collect<Avx512, 4>};

const LargestFunction kLargestAvx512 = largest<Avx512>;
void ordered_products_avx512(const ProductTask& task) { ordered_products<Avx512, 6, 4, 8>(task); }

}  // namespace poeem
