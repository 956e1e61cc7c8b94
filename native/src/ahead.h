// Codes of the lists to come, fetched while something else is computed: what hardware fetches ahead ends with each page and
// each list.
#pragma once

#include <algorithm>
#include <cstdint>

#include "poeem/scratch.h"

namespace poeem {

class Ahead {
 public:
  void clear() { ranges_.clear(), next_ = looked_at_ = 0; }
  void add(const std::uint8_t* begin, const std::uint8_t* end) { ranges_.push_back({begin, end}); }

  // Fetch so many further lines into the second-level cache.
  void fetch(int lines) {
    while (next_ < ranges_.size()) {
      Range& range = ranges_[next_];
      for (; range.begin < range.end; range.begin += kLine)
        if (lines-- > 0) {
          __builtin_prefetch(range.begin, 0, 2);
        } else {
          return;
        }
      ++next_;
    }
  }

  // One more range is looked at now, and need not be fetched any more.
  void skip() { next_ = std::max(next_, ++looked_at_); }

 private:
  static constexpr std::int64_t kLine = 64;
  struct Range {
    const std::uint8_t *begin, *end;
  };
  ScratchVector<Range> ranges_;
  std::size_t next_ = 0;       // to be fetched
  std::size_t looked_at_ = 0;  // ranges so far
};

}  // namespace poeem
