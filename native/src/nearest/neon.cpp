// Nearest centers, 16 points x 4 centers at a time.
#include <arm_neon.h>

#include <limits>

#include "../kernels/kernels.h"

namespace poeem {
namespace {

struct Neon {
  using Float = float32x4_t;
  using Int = int32x4_t;
  static constexpr int kLanes = 4;
  static Float load(const float* p) { return vld1q_f32(p); }
  static Float set(float value) { return vdupq_n_f32(value); }
  static Float lowest() { return vdupq_n_f32(-std::numeric_limits<float>::infinity()); }
  static Int zero() { return vdupq_n_s32(0); }
  static Float fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
  static void take_greater(Float sum, Float& best, Int& index, std::int32_t number) {
    const uint32x4_t greater = vcgtq_f32(sum, best);
    best = vbslq_f32(greater, sum, best);
    index = vbslq_s32(greater, vdupq_n_s32(number), index);
  }
  static void store(std::int32_t* p, Int index) { vst1q_s32(p, index); }
  static void put(float* p, Float a) { vst1q_f32(p, a); }
  static Float add(Float a, Float b) { return vaddq_f32(a, b); }
  static Float multiply(Float a, Float b) { return vmulq_f32(a, b); }
  static Float subtract(Float a, Float b) { return vsubq_f32(a, b); }
  static Float greatest(Float a, Float b) { return vmaxq_f32(a, b); }
  static unsigned reaches(Float a, Float b) {
    static const std::uint32_t bits[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcgeq_f32(a, b), vld1q_u32(bits)));
  }
};

}  // namespace

const NearestTile kNearestNeon = {16, 4, nearest_tile<Neon, 4, 4>};

const ResidualTile kResidualNeon = {6, 16, residual_products<Neon, 6, 4>,
                                    residual_extend<Neon, 4>, residual_collect<Neon, 4>};

const LargestFunction kLargestNeon = largest<Neon>;
void ordered_products_neon(const ProductTask& task) { ordered_products<Neon, 6, 4, 8>(task); }

}  // namespace poeem
