// Which items of an index a filter by ids lets through.
#pragma once

#include <algorithm>
#include <cstdint>

namespace poeem {

// wanted[i]: whether the id low + i is wanted, i below span; wanted[span] is false and stands for all other ids.
template <class Id>
void flags_of(const Id* ids, std::int64_t count, const bool* wanted, std::uint64_t span, std::uint64_t low, bool* flags) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint64_t place = static_cast<std::uint64_t>(ids[i]) - low;  // below low it wraps around to beyond the span
    flags[i] = wanted[std::min(place, span)];
  }
}

}  // namespace poeem
