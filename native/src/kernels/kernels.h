// The kernels that exist, each in the file of its instruction set. They share nothing but plain pointers.
#pragma once

#include "../arithmetic/arithmetic.h"
#include "../givens/largest.h"
#include "poeem/list_bounds.h"
#include "../nearest/tile.h"
#include "../residual/tile.h"
#include "../tables.h"
#include "bounds.h"
#include "poeem/kernel.h"

namespace poeem {

static_assert(kNumLooks == 3, "as many functions as kernel.h has");

extern const NearestTile kNearestScalar;
extern const ResidualTile kResidualScalar;
extern const LargestFunction kLargestScalar;
void ordered_products_scalar(const ProductTask& task);

#if defined(__x86_64__)
extern const NearestTile kNearestAvx2;
extern const ResidualTile kResidualAvx2;
extern const LargestFunction kLargestAvx2;
extern const NearestTile kNearestAvx512;
extern const ResidualTile kResidualAvx512;
extern const LargestFunction kLargestAvx512;
void ordered_products_avx2(const ProductTask& task);
void ordered_products_avx512(const ProductTask& task);

void bound_bytes_avx2(const BoundTask& task, std::uint64_t* masks);
void bound_pairs_avx2(const BoundTask& task, std::uint64_t* masks);
void bound_quads_avx2(const BoundTask& task, std::uint64_t* masks);
void bound_nibbles_avx2(const BoundTask& task, std::uint64_t* masks);
void bound_bytes_avx512(const BoundTask& task, std::uint64_t* masks);
void bound_pairs_avx512(const BoundTask& task, std::uint64_t* masks);
void bound_quads_avx512(const BoundTask& task, std::uint64_t* masks);
void sum_bytes_avx512(const BoundTask& task, std::uint16_t* sums, std::uint64_t* masks);
void bound_nibbles_avx512(const BoundTask& task, std::uint64_t* masks);
void bound_bytes_avx512_vbmi(const BoundTask& task, std::uint64_t* masks);
void bound_pairs_avx512_vbmi(const BoundTask& task, std::uint64_t* masks);
void bound_quads_avx512_vbmi(const BoundTask& task, std::uint64_t* masks);
void list_bounds_avx512_vnni(const ByteLists& lists, const ListBoundsTask& task);
void sum_bytes_avx512_vbmi(const BoundTask& task, std::uint16_t* sums, std::uint64_t* masks);
void bound_bytes_of_two_avx512_vbmi(const BoundTask& a, const BoundTask& b, std::uint64_t* masks_a,
                                    std::uint64_t* masks_b);
void bound_pairs_of_two_avx512_vbmi(const BoundTask& a, const BoundTask& b, std::uint64_t* masks_a,
                                    std::uint64_t* masks_b);
void bound_quads_of_two_avx512_vbmi(const BoundTask& a, const BoundTask& b, std::uint64_t* masks_a,
                                    std::uint64_t* masks_b);
#elif defined(__aarch64__)
extern const NearestTile kNearestNeon;
extern const ResidualTile kResidualNeon;
extern const LargestFunction kLargestNeon;
void ordered_products_neon(const ProductTask& task);

void bound_bytes_neon(const BoundTask& task, std::uint64_t* masks);
void bound_pairs_neon(const BoundTask& task, std::uint64_t* masks);
void bound_quads_neon(const BoundTask& task, std::uint64_t* masks);
void bound_nibbles_neon(const BoundTask& task, std::uint64_t* masks);
#endif

}  // namespace poeem
