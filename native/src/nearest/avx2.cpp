// Nearest centers, 16 points x 4 centers at a time. Built with -mavx2 -mfma.
#include <immintrin.h>

#include <limits>

#include "../kernels/kernels.h"

namespace poeem {
namespace {

struct Avx2 {
  using Float = __m256;
  using Int = __m256i;
  static constexpr int kLanes = 8;
  static Float load(const float* p) { return _mm256_loadu_ps(p); }
  static Float set(float value) { return _mm256_set1_ps(value); }
  static Float lowest() { return _mm256_set1_ps(-std::numeric_limits<float>::infinity()); }
  static Int zero() { return _mm256_setzero_si256(); }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static void take_greater(Float sum, Float& best, Int& index, std::int32_t number) {
    const Float greater = _mm256_cmp_ps(sum, best, _CMP_GT_OQ);
    best = _mm256_blendv_ps(best, sum, greater);
    index = _mm256_blendv_epi8(index, _mm256_set1_epi32(number), _mm256_castps_si256(greater));
  }
  static void store(std::int32_t* p, Int index) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), index);
  }
  static void put(float* p, Float a) { _mm256_storeu_ps(p, a); }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float multiply(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float subtract(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Float greatest(Float a, Float b) { return _mm256_max_ps(a, b); }
  static unsigned reaches(Float a, Float b) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
  }
};

}  // namespace

const NearestTile kNearestAvx2 = {16, 4, nearest_tile<Avx2, 2, 4>};

const ResidualTile kResidualAvx2 = {6, 16, residual_products<Avx2, 6, 2>,
                                    residual_extend<Avx2, 2>, residual_collect<Avx2, 2>};

const LargestFunction kLargestAvx2 = largest<Avx2>;
void ordered_products_avx2(const ProductTask& task) { ordered_products<Avx2, 4, 2, 8>(task); }

}  // namespace poeem
