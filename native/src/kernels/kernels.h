// The kernels that exist; each is defined in the file of its name.
#pragma once

#include "../nearest/tile.h"
#include "poeem/kernel.h"

namespace poeem {

extern const Kernel kScalarKernel;

extern const NearestTile kNearestScalar;
#if defined(__x86_64__)
extern const NearestTile kNearestAvx2;
extern const NearestTile kNearestAvx512;
#endif

}  // namespace poeem
