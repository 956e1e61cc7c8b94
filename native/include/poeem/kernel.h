// Scan kernels: one function each, one file per instruction set under src/kernels/, chosen once per search.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "poeem/index_view.h"
#include "poeem/top_k.h"

namespace poeem {

// Floats between table[m] and table[m + 1]. Tables of narrow codes are padded to the full range of
// a code, so that no byte or nibble whatever can read beyond them.
inline std::int64_t table_stride(const IndexView& index) {
  switch (index.width) {
    case CodeWidth::kFourBit: return 16;
    case CodeWidth::kByte: return 256;
    default: return index.num_codewords;
  }
}

// Score the items at positions [begin, end) for one query and offer them to `best`:
// score = ((bias + table[0, c_0]) + table[1, c_1]) + ..., then the norm as the metric wants it.
// table: [num_subspaces, table_stride(index)].
using ScanFunction = void (*)(const IndexView& index, std::int64_t begin, std::int64_t end,
                              const float* table, float bias, TopK& best);

struct NearestTile;  // src/nearest/tile.h

struct Kernel {
  const char* name;          // what POEEM_KERNEL says
  const char* description;
  const char* required_cpu;  // for people
  bool (*supported)();       // whether this machine can run it
  ScanFunction scan;
  const NearestTile* nearest;
};

// All kernels that were compiled in, the most wanted first; the last one runs everywhere.
const std::vector<Kernel>& all_kernels();

// The kernel named `name`, or the first supported one if it is empty. Throws kConfig.
const Kernel& choose_kernel(const std::string& name);

}  // namespace poeem
