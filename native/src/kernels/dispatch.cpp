#include "kernels.h"
#include "poeem/error.h"

namespace poeem {

const std::vector<Kernel>& all_kernels() {
  static const std::vector<Kernel> kernels = {kScalarKernel};
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
