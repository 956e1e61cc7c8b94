#include "poeem/top_k.h"

#include <algorithm>
#include <limits>

namespace poeem {

void TopK::reset(std::int64_t capacity) {
  capacity_ = static_cast<std::size_t>(capacity);
  limit_ = 2 * capacity_ + 64;
  threshold_ = -std::numeric_limits<float>::infinity();
  buffer_.clear();
}

void TopK::tighten() {
  if (buffer_.size() < capacity_) return;
  const auto last = buffer_.begin() + static_cast<std::ptrdiff_t>(capacity_) - 1;
  std::nth_element(buffer_.begin(), last, buffer_.end(), better);
  threshold_ = last->score;
  buffer_.resize(capacity_);
}

const std::vector<Candidate>& TopK::sorted() {
  tighten();
  std::sort(buffer_.begin(), buffer_.end(), better);
  return buffer_;
}

}  // namespace poeem
