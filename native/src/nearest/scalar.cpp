// Nearest centers in portable C++: four lanes of plain floats, which compilers put into a register where there is one.
#include <limits>

#include "../kernels/kernels.h"

namespace poeem {
namespace {

struct Scalar {
  static constexpr int kLanes = 4;
  struct Float { float lane[kLanes]; };
  struct Int { std::int32_t lane[kLanes]; };
  static Float load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
  static Float set(float value) { return {{value, value, value, value}}; }
  static Float lowest() { return set(-std::numeric_limits<float>::infinity()); }
  static Int zero() { return {{0, 0, 0, 0}}; }
  static Float fma(Float a, Float b, Float c) {
    for (int i = 0; i < kLanes; ++i) c.lane[i] += a.lane[i] * b.lane[i];
    return c;
  }
  static void take_greater(Float sum, Float& best, Int& index, std::int32_t number) {
    for (int i = 0; i < kLanes; ++i) {
      const bool greater = sum.lane[i] > best.lane[i];
      best.lane[i] = greater ? sum.lane[i] : best.lane[i];
      index.lane[i] = greater ? number : index.lane[i];
    }
  }
  static void store(std::int32_t* p, Int index) {
    for (int i = 0; i < kLanes; ++i) p[i] = index.lane[i];
  }
  static void put(float* p, Float a) {
    for (int i = 0; i < kLanes; ++i) p[i] = a.lane[i];
  }
  static Float add(Float a, Float b) {
    for (int i = 0; i < kLanes; ++i) a.lane[i] += b.lane[i];
    return a;
  }
  static Float multiply(Float a, Float b) {
    for (int i = 0; i < kLanes; ++i) a.lane[i] *= b.lane[i];
    return a;
  }
  static Float subtract(Float a, Float b) {
    for (int i = 0; i < kLanes; ++i) a.lane[i] -= b.lane[i];
    return a;
  }
  static Float greatest(Float a, Float b) {
    for (int i = 0; i < kLanes; ++i) a.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
  }
  static unsigned reaches(Float a, Float b) {
    unsigned mask = 0;
    for (int i = 0; i < kLanes; ++i) mask |= static_cast<unsigned>(a.lane[i] >= b.lane[i]) << i;
    return mask;
  }
};

}  // namespace

const NearestTile kNearestScalar = {8, 4, nearest_tile<Scalar, 2, 4>};

const ResidualTile kResidualScalar = {4, 8, residual_products<Scalar, 4, 2>,
                                    residual_extend<Scalar, 2>, residual_collect<Scalar, 2>};

const LargestFunction kLargestScalar = largest<Scalar>;
void ordered_products_scalar(const ProductTask& task) { ordered_products<Scalar, 2, 2, 4>(task); }

}  // namespace poeem
