// Encoding by product codes where errors cost more along one direction, so that subspaces are not independent.
#pragma once

#include <cstdint>
#include <string>

namespace poeem {

struct DescentRequest {
  const float* vectors = nullptr;    // [num_vectors, num_codebooks * width]
  const float* along = nullptr;      // the same shape: an error e of vector i costs |e|^2 + <e, along_i>^2
  const float* codebooks = nullptr;  // [num_codebooks, num_codewords, width]
  std::int64_t num_vectors = 0;
  std::int64_t num_codebooks = 0;
  std::int64_t num_codewords = 0;    // 1 to 65,536
  std::int64_t width = 0;
  std::int64_t num_passes = 1;       // at most, over all codebooks
  std::int64_t num_threads = 1;
  std::string kernel;                // empty = the best this machine can run
};

// codes: [num_vectors, num_codebooks], each below num_codewords: where to begin, and then what changing one code after the
// other to the cheapest, ties to the smaller number, leads to. Kernels may differ where costs do by rounding alone; the number of
// threads makes no difference. Throws Error; joins every thread it started.
void descend(const DescentRequest& request, std::int64_t* codes);

}  // namespace poeem
