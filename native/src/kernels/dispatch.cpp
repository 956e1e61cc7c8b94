#include "kernels.h"
#include "poeem/error.h"

namespace poeem {
namespace {

bool always() { return true; }

#if defined(__x86_64__)
// These ask the operating system too, whether it keeps the wide registers.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt");
}
bool has_avx512() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"); }
// Nearly all machines that have the one have the other.
bool has_avx512_vbmi() {
  return has_avx512() && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
}
#endif

}  // namespace

// Measured (benchmarks/engine): Intel's hardware fetches too little by itself; AMD's fetches well what is in one piece, and
// is then only hindered.
Fetch best_fetch(bool lists) {
#if defined(__x86_64__)
  if (__builtin_cpu_is("amd")) return lists ? Fetch::kSecondLevel : Fetch::kNowhere;
#endif
  static_cast<void>(lists);
  return Fetch::kFirstLevel;
}

const std::vector<Kernel>& all_kernels() {
  static const std::vector<Kernel> kernels = {
#if defined(__x86_64__)
      {"avx512-vbmi", "byte permutes of 128 entries", "AVX-512 F, BW, VBMI and VNNI", has_avx512_vbmi,
       {bound_bytes_avx512_vbmi, bound_pairs_avx512_vbmi, bound_quads_avx512_vbmi}, bound_nibbles_avx512,
       {bound_bytes_of_two_avx512_vbmi, bound_pairs_of_two_avx512_vbmi, bound_quads_of_two_avx512_vbmi},
       sum_bytes_avx512_vbmi, list_bounds_avx512_vnni, &kNearestAvx512, &kResidualAvx512, &kArithmeticAvx512,
       kLargestAvx512, ordered_products_avx512},
      {"avx512", "word permutes of 64 entries", "AVX-512 F and BW", has_avx512,
       {bound_bytes_avx512, bound_pairs_avx512, bound_quads_avx512}, bound_nibbles_avx512, {},
       sum_bytes_avx512, nullptr, &kNearestAvx512, &kResidualAvx512, &kArithmeticAvx512,
       kLargestAvx512, ordered_products_avx512},
      {"avx2", "byte shuffles of 16 entries", "AVX2, FMA and POPCNT", has_avx2,
       {bound_bytes_avx2, bound_pairs_avx2, bound_quads_avx2}, bound_nibbles_avx2, {},
       nullptr, nullptr, &kNearestAvx2, &kResidualAvx2, &kArithmeticAvx2,
       kLargestAvx2, ordered_products_avx2},
#elif defined(__aarch64__)
      {"neon", "look-ups of 64 entries", "64-bit ARM", always, {bound_bytes_neon, bound_pairs_neon, bound_quads_neon},
       bound_nibbles_neon, {}, nullptr, nullptr, &kNearestNeon, &kResidualNeon, &kArithmeticScalar, kLargestNeon, ordered_products_neon},
#endif
      {"scalar", "portable C++, one table look-up per code", "any", always, {}, nullptr, {},
       nullptr, nullptr, &kNearestScalar, &kResidualScalar, &kArithmeticScalar, kLargestScalar, ordered_products_scalar}};
  return kernels;
}

std::vector<CpuFeature> cpu_features() {
#if defined(__x86_64__)
  return {{"popcnt", __builtin_cpu_supports("popcnt") != 0},
          {"avx2", __builtin_cpu_supports("avx2") != 0},
          {"fma", __builtin_cpu_supports("fma") != 0},
          {"avx512f", __builtin_cpu_supports("avx512f") != 0},
          {"avx512bw", __builtin_cpu_supports("avx512bw") != 0},
          {"avx512vbmi", __builtin_cpu_supports("avx512vbmi") != 0},
          {"avx512vnni", __builtin_cpu_supports("avx512vnni") != 0}};
#elif defined(__aarch64__)
  return {{"neon", true}};
#else
  return {};
#endif
}

const Kernel& choose_kernel(const std::string& name) {
  for (const Kernel& kernel : all_kernels()) {
    if (name.empty() ? kernel.supported() : name == kernel.name) {
      if (kernel.supported()) return kernel;
      throw Error(ErrorCode::kConfig, "POEEM_KERNEL: '" + name + "' needs " + kernel.required_cpu +
                                          ", which this machine lacks");
    }
  }
  std::string known;
  for (const Kernel& kernel : all_kernels()) known += (known.empty() ? "" : ", ") + std::string(kernel.name);
  throw Error(ErrorCode::kConfig, "POEEM_KERNEL: got '" + name + "', wanted one of " + known);
}

}  // namespace poeem
