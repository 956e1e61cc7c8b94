// One step of Givens coordinate descent: slopes, their moments, the pairs, the turn. No product of matrices, no copy.
#pragma once

#include <cstdint>
#include <string>

namespace poeem {

// All matrices are float32 [dim, dim], contiguous.
struct GivensRequest {
  std::int64_t dim = 0;
  float* product = nullptr;   // G R^T, G the gradient of the loss by R; may be changed
  float* mean = nullptr;      // running mean of A, skew-symmetric; null = no moments
  float* square = nullptr;    // running mean of A's squares, above the diagonal; with mean
  float decay_mean = 0.0F;    // shares of the old moments that are kept
  float decay_square = 0.0F;
  double scale_mean = 1.0;    // what makes up for moments that began at 0
  double scale_square = 1.0;
  double lr = 0.0;            // angle = lr * slope, or lr * mean / sqrt(square)
  const std::int64_t* partner = nullptr;  // [dim], mutual; null = greedy
  float* rotation = nullptr;  // R, turned in place
  std::string kernel;         // empty = the best this machine can run
};

void givens_turn(const GivensRequest& request);

// Pairs that take the largest |weight| first, then the largest that is left, ...; of equal ones, one and the same on any
// machine. Only what is above or below the diagonal counts; the two must be equal but for the sign. NaN is never taken,
// but a row that has one may be left over.
// out: [dim], the partner of each row; a row left over is its own partner.
void greedy_pairs(const float* weights, std::int64_t dim, const std::string& kernel, std::int64_t* out);

}  // namespace poeem
