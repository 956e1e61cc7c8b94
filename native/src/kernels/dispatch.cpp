#include "kernels.h"
#include "poeem/error.h"

namespace poeem {
namespace {

#if defined(__x86_64__)
// These ask the operating system too, whether it keeps the wide registers.
bool has_avx512() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"); }
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif

}  // namespace

const std::vector<Kernel>& all_kernels() {
  static const std::vector<Kernel> kernels = {
#if defined(__x86_64__)
      {"avx512", "64 points x 4 centers; scans as the scalar kernel", "AVX-512 F and BW",
       has_avx512, kScalarKernel.scan, &kNearestAvx512},
      {"avx2", "16 points x 4 centers; scans as the scalar kernel", "AVX2 and FMA", has_avx2,
       kScalarKernel.scan, &kNearestAvx2},
#endif
      kScalarKernel};
  return kernels;
}

const Kernel& choose_kernel(const std::string& name) {
  std::string known;
  for (const Kernel& kernel : all_kernels()) {
    if (name.empty() ? kernel.supported() : name == kernel.name) {
      if (kernel.supported()) return kernel;
      throw Error(ErrorCode::kConfig, "POEEM_KERNEL: '" + name + "' needs " + kernel.required_cpu +
                                          ", which this machine lacks");
    }
    known += (known.empty() ? "" : ", ") + std::string(kernel.name);
  }
  throw Error(ErrorCode::kConfig, "POEEM_KERNEL: got '" + name + "', wanted one of " + known);
}

}  // namespace poeem
