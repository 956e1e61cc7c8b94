// What every file here compiles with its own flags. Nothing in it may be linked into another: no inline functions of the
// standard library, everything in an unnamed namespace.
#pragma once

#include "arithmetic.h"

namespace poeem {
namespace {

struct MinusSquare {
  static float step(float sum, float a, float b) { return sum - (a - b) * (a - b); }
};

// kRows rows of the matrix at a time, each sum's own additions in their order.
template <class Term, int kRows, bool kFirst>
void reduce_some(const float* matrix, std::int64_t num_rows, const float* vector, float* __restrict out) {
  for (std::int64_t r = 0; r < num_rows; ++r) {
    float sum = kFirst ? 0.0F : out[r];
    for (int j = 0; j < kRows; ++j) sum = Term::step(sum, vector[j], matrix[j * num_rows + r]);
    out[r] = sum;
  }
}

template <class Term>
void reduce(const float* matrix, std::int64_t num_rows, std::int64_t width, const float* vector, float* out) {
  constexpr int kRows = 8;
  std::int64_t j = 0;
  if (width >= kRows) {
    reduce_some<Term, kRows, true>(matrix, num_rows, vector, out);
    j = kRows;
  } else {
    for (std::int64_t r = 0; r < num_rows; ++r) out[r] = 0.0F;
  }
  for (; j + kRows <= width; j += kRows)
    reduce_some<Term, kRows, false>(matrix + j * num_rows, num_rows, vector + j, out);
  for (; j + 2 <= width; j += 2)
    reduce_some<Term, 2, false>(matrix + j * num_rows, num_rows, vector + j, out);
  for (; j < width; ++j) reduce_some<Term, 1, false>(matrix + j * num_rows, num_rows, vector + j, out);
}

// Lane 0 gets what all lanes come to; half of them at a time, so that there is no chain of as many steps as lanes.
template <int kHalf>
void halve(float* lows, float* highs, float* zeros) {
  for (int i = 0; i < kHalf; ++i) {
    lows[i] = lows[i + kHalf] < lows[i] ? lows[i + kHalf] : lows[i];
    highs[i] = highs[i + kHalf] > highs[i] ? highs[i + kHalf] : highs[i];
    zeros[i] += zeros[i + kHalf];  // NaN stays NaN
  }
  if constexpr (kHalf > 1) halve<kHalf / 2>(lows, highs, zeros);
}

Extent extent(const float* values, std::int64_t count) {
  constexpr int kLanes = 32;  // of their own, so that a compiler can keep them in registers
  float lows[kLanes], highs[kLanes], zeros[kLanes];
  for (int i = 0; i < kLanes; ++i) lows[i] = highs[i] = values[0], zeros[i] = 0.0F;
  std::int64_t k = 0;
  for (; k + kLanes <= count; k += kLanes)
    for (int i = 0; i < kLanes; ++i) {
      const float value = values[k + i];
      lows[i] = value < lows[i] ? value : lows[i];
      highs[i] = value > highs[i] ? value : highs[i];
      zeros[i] += value * 0.0F;  // stays 0 unless one is NaN or infinite
    }
  for (; k < count; ++k) {
    lows[0] = values[k] < lows[0] ? values[k] : lows[0];
    highs[0] = values[k] > highs[0] ? values[k] : highs[0];
    zeros[0] += values[k] * 0.0F;
  }
  halve<kLanes / 2>(lows, highs, zeros);
  return {lows[0], highs[0], zeros[0] == 0.0F};
}

void shortfalls(const float* values, std::int64_t count, float high, float inverse, std::uint8_t* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float x = (high - values[i]) * inverse;
    out[i] = static_cast<std::uint8_t>(static_cast<int>(x < 255.0F ? x : 255.0F));
  }
}

void lesser_halves(const std::uint8_t* entries, std::int64_t count, std::uint8_t* __restrict out) {
  const std::uint8_t* others = entries + count;
  for (std::int64_t i = 0; i < count; ++i) out[i] = entries[i] < others[i] ? entries[i] : others[i];
}

std::int64_t count_at_least(const float* values, std::int64_t count, float least) {
  std::int32_t found = 0;  // as wide as a float: one register holds as many of both
  for (std::int64_t i = 0; i < count; ++i) found += values[i] >= least ? 1 : 0;
  return found;
}

std::int64_t count_at_most(const std::uint16_t* values, std::int64_t count, std::uint16_t most) {
  constexpr std::int64_t kLanes = Arithmetic::kShortLanes;
  std::uint16_t lanes[kLanes] = {};
  for (std::int64_t i = 0; i < count; i += kLanes)
    for (std::int64_t l = 0; l < kLanes; ++l)
      lanes[l] = static_cast<std::uint16_t>(lanes[l] + (values[i + l] <= most ? 1 : 0));
  std::int32_t found = 0;
  for (const std::uint16_t lane : lanes) found += lane;
  return found;
}

[[maybe_unused]] void within(const std::uint16_t* values, std::int64_t num_units, std::uint16_t most,
                             std::uint64_t* masks) {
  for (std::int64_t u = 0; u < num_units; ++u, values += 64) {
    masks[u] = 0;
    for (int i = 0; i < 64; ++i) masks[u] |= static_cast<std::uint64_t>(values[i] <= most ? 1 : 0) << i;
  }
}

// How many of [begin, end) come before each of a few numbers that all lie after them, or all before them.
template <bool kAfter, int kLanes>
void count_before(const float* values, std::int64_t begin, std::int64_t end, const float* own, std::int32_t* before) {
  for (std::int64_t j = begin; j < end; ++j)
    for (int i = 0; i < kLanes; ++i) before[i] += (kAfter ? values[j] >= own[i] : values[j] > own[i]) ? 1 : 0;
}

void ranks(const float* values, std::int64_t count, std::int32_t* out) {
  constexpr int kLanes = 32;
  for (std::int64_t first = 0; first < count; first += kLanes) {
    const std::int64_t end = first + kLanes < count ? first + kLanes : count;
    float own[kLanes];
    std::int32_t before[kLanes];
    for (int i = 0; i < kLanes; ++i) own[i] = values[first + i < count ? first + i : first], before[i] = 0;
    count_before<true, kLanes>(values, 0, first, own, before);
    count_before<false, kLanes>(values, end, count, own, before);
    for (std::int64_t j = first; j < end; ++j)
      for (int i = 0; i < kLanes; ++i)
        before[i] += (values[j] > own[i]) | ((values[j] == own[i]) & (j - first < i)) ? 1 : 0;
    for (std::int64_t i = first; i < end; ++i) out[i] = before[i - first];
  }
}

[[maybe_unused]] std::int64_t keep(float* values, std::int64_t* numbers, std::int64_t count, float least) {
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = values[i];
    values[kept] = value;
    numbers[kept] = numbers[i];
    kept += value >= least ? 1 : 0;
  }
  return kept;
}

std::int64_t cheapest(const float* distances, const float* products, std::int64_t count, float missed,
                      float* __restrict costs) {
  constexpr int kLanes = 32;
  float lows[kLanes];
  for (int i = 0; i < kLanes; ++i) lows[i] = distances[0] + (missed - products[0]) * (missed - products[0]);
  std::int64_t k = 0;
  for (; k + kLanes <= count; k += kLanes)
    for (int i = 0; i < kLanes; ++i) {
      const float miss = missed - products[k + i], cost = distances[k + i] + miss * miss;
      costs[k + i] = cost;
      lows[i] = cost < lows[i] ? cost : lows[i];
    }
  for (; k < count; ++k) {
    const float miss = missed - products[k], cost = distances[k] + miss * miss;
    costs[k] = cost;
    lows[0] = cost < lows[0] ? cost : lows[0];
  }
  float least = lows[0];
  for (int i = 1; i < kLanes; ++i) least = lows[i] < least ? lows[i] : least;
  for (std::int64_t first = 0; first < count; first += kLanes) {
    const std::int64_t end = first + kLanes < count ? first + kLanes : count;
    std::int32_t there = 0;
    for (std::int64_t i = first; i < end; ++i) there |= costs[i] == least ? 1 : 0;
    for (std::int64_t i = first; there != 0 && i < end; ++i)
      if (costs[i] == least) return i;
  }
  return 0;
}

std::int64_t count_bits(const std::uint64_t* words, std::int64_t count) {
  std::int64_t found = 0;
  for (std::int64_t i = 0; i < count; ++i) found += __builtin_popcountll(words[i]);
  return found;
}

}  // namespace
}  // namespace poeem
