// Encoding by residual codes: full-width codebooks, each taking up what the ones before left over.
#pragma once

#include <cstdint>
#include <string>

namespace poeem {

struct ResidualRequest {
  const float* vectors = nullptr;    // [num_vectors, dim]
  const float* codebooks = nullptr;  // [num_codebooks, num_codewords, dim]
  const float* along = nullptr;      // [num_vectors, dim]: an error e of vector i costs <e, along_i>^2 more; null = not
  std::int64_t num_vectors = 0;
  std::int64_t dim = 0;
  std::int64_t num_codebooks = 0;
  std::int64_t num_codewords = 0;    // 1 to 65,536
  std::int64_t beam = 1;             // partial codes kept from one codebook to the next, 1 to 256
  std::int64_t num_threads = 1;
  std::string kernel;                // empty = the best this machine can run
};

// codes: [num_vectors, num_codebooks]. From each codebook to the next the `beam` partial codes of the least |x - sum of
// codewords|^2 are kept (and what `along` adds), of equal ones that of the better partial code, then that of the smaller
// codeword. As with nearest(), codes whose errors differ by rounding alone may be ranked otherwise by another kernel, and here
// also in another number of vectors; never by the number of threads. Throws Error; joins every thread it started.
void encode_residual(const ResidualRequest& request, std::int64_t* codes);

}  // namespace poeem
