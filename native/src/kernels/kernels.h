// The kernels that exist; each is defined in the file of its name.
#pragma once

#include "poeem/kernel.h"

namespace poeem {

extern const Kernel kScalarKernel;

}  // namespace poeem
