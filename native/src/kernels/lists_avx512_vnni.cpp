// Bounds of the biases of all lists with AVX-512 VNNI, which multiplies 64 pairs of bytes and adds up quads of them at once.
#include <immintrin.h>

#include "kernels.h"

namespace poeem {
namespace {

constexpr int kBlocks = 4;  // side by side: independent chains hide the latency of additions

template <int kCount>
void bound_some(const ByteLists& lists, const ListBoundsTask& task, std::int64_t block) {
  const std::int64_t block_bytes = lists.num_quads * kListBlock * kQuad;
  const std::int8_t* bytes = lists.bytes + block * block_bytes;
  __m512i sums[kCount];
  for (int b = 0; b < kCount; ++b) sums[b] = _mm512_setzero_si512();
  for (std::int64_t quad = 0; quad < lists.num_quads; ++quad, bytes += kListBlock * kQuad) {
    int four;
    __builtin_memcpy(&four, task.query + quad * kQuad, sizeof four);
    const __m512i query = _mm512_set1_epi32(four);
    for (int b = 0; b < kCount; ++b)
      sums[b] = _mm512_dpbusd_epi32(sums[b], query, _mm512_loadu_si512(bytes + b * block_bytes));
  }
  for (int b = 0; b < kCount; ++b) {
    const std::int64_t l = (block + b) * kListBlock;
    const __m512i offsets = _mm512_loadu_si512(lists.offsets + l);
    const __m512 scales = _mm512_mul_ps(_mm512_loadu_ps(lists.scales + l), _mm512_set1_ps(task.scale));
    const __m512 products = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sums[b], offsets)), scales);
    const __m512 far = _mm512_fmadd_ps(_mm512_loadu_ps(lists.errors + l), _mm512_set1_ps(task.length),
                                       _mm512_mul_ps(_mm512_loadu_ps(lists.lengths + l), _mm512_set1_ps(task.error)));
    const __m512 farther = _mm512_add_ps(far, _mm512_set1_ps(1e-36F));  // where products vanish
    _mm512_storeu_ps(task.low + l, _mm512_sub_ps(products, farther));
    _mm512_storeu_ps(task.high + l, _mm512_add_ps(products, farther));
  }
}

}  // namespace

void list_bounds_avx512_vnni(const ByteLists& lists, const ListBoundsTask& task) {
  std::int64_t block = 0;
  for (; block + kBlocks <= lists.num_blocks; block += kBlocks) bound_some<kBlocks>(lists, task, block);
  for (; block < lists.num_blocks; ++block) bound_some<1>(lists, task, block);
}

}  // namespace poeem
