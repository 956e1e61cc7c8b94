#include "poeem/top_k.h"

#include <algorithm>
#include <limits>

namespace poeem {

void TopK::reset(std::int64_t capacity) {
  capacity_ = static_cast<std::size_t>(capacity);
  threshold_ = -std::numeric_limits<float>::infinity();
  heap_.clear();
}

void TopK::offer(Candidate candidate) {
  // With better() as "less", the top of the standard heap is the worst candidate.
  if (heap_.size() < capacity_) {
    heap_.push_back(candidate);
    std::push_heap(heap_.begin(), heap_.end(), better);
  } else if (better(candidate, heap_.front())) {
    std::pop_heap(heap_.begin(), heap_.end(), better);
    heap_.back() = candidate;
    std::push_heap(heap_.begin(), heap_.end(), better);
  }
  if (heap_.size() == capacity_) threshold_ = heap_.front().score;
}

const std::vector<Candidate>& TopK::sorted() {
  std::sort(heap_.begin(), heap_.end(), better);
  return heap_;
}

}  // namespace poeem
