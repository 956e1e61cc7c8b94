// The k best candidates seen so far: highest score first, ties to the smaller id.
#pragma once

#include <cstdint>
#include <vector>

#include "poeem/scratch.h"

namespace poeem {

struct Kernel;   // kernel.h
struct Segment;  // search.h

struct Candidate {
  float score;
  std::int64_t id;
};

// The one order of results. Scores are never NaN here.
inline bool better(const Candidate& a, const Candidate& b) {
  // Without branches: in a selection every other comparison would be guessed wrong.
  return (a.score > b.score) | ((a.score == b.score) & (a.id < b.id));
}

// A buffer with room for more than k: now and then those that cannot be among the k best are dropped, all at once.
// That costs a few operations a candidate, however large k is. Candidates are known by their place, a segment's number and
// a position in it; ids, which lie far apart in memory, are looked up only for what is left at the end.
class TopK {
 public:
  static constexpr int kPositionBits = 40;
  static constexpr std::int64_t kPositions = (std::int64_t{1} << kPositionBits) - 1;

  TopK(const std::vector<Segment>& segments, const Kernel& kernel) : segments_(segments), kernel_(kernel) {}

  // Forget everything and keep the `capacity` (>= 1) best from now on; memory is kept.
  void reset(std::int64_t capacity);

  // A candidate below this score cannot get in; one that reaches it may. -inf until k were seen.
  float threshold() const { return threshold_; }

  // Whether k were seen.
  bool full() const { return size_ >= capacity_; }

  // Take in of `count` candidates those that may belong to the k best; one whose score is NaN does not.
  // place(i): segment number << kPositionBits | position. wanted(i): 1, or 0 for one that does not count.
  template <class Place, class Wanted>
  void offer(const float* scores, std::int64_t count, const Place& place, const Wanted& wanted) {
    make_room(static_cast<std::size_t>(count));
    const float threshold = threshold_;
    std::size_t size = size_;
    for (std::int64_t i = 0; i < count; ++i) {  // without branches, which nobody could guess
      scores_[size] = scores[i];
      places_[size] = place(i);
      size += static_cast<std::size_t>(scores[i] >= threshold) & wanted(i);
    }
    size_ = size;
    if (size_ >= limit_) tighten();
  }

  // If k were seen, raise the threshold to the k-th best score or a little below.
  void tighten();

  // Tighten if that would raise the threshold by much.
  void tighten_if_worth() {
    if (size_ > worth_) tighten();
  }

  // Best first. Ends the collection: reset() before the next offer().
  const ScratchVector<Candidate>& sorted();

 private:
  void make_room(std::size_t count) {
    if (scores_.size() < size_ + count) grow(size_ + count);
  }
  void grow(std::size_t size);
  void drop_below(float threshold);
  void keep_exactly();
  void fetch_ids() const;
  void sort_by_ranks();
  void sort_exactly();
  std::int64_t id_of(std::int64_t place) const;

  const std::vector<Segment>& segments_;
  const Kernel& kernel_;
  std::size_t capacity_ = 0;
  std::size_t enough_ = 0;  // so many may be left after dropping
  std::size_t worth_ = 0;
  std::size_t limit_ = 0;
  float threshold_ = 0;
  std::size_t size_ = 0;             // candidates; the vectors have room for more
  ScratchVector<float> scores_;        // side by side, so that a register holds several
  ScratchVector<std::int64_t> places_;
  ScratchVector<std::int32_t> ranks_;
  ScratchVector<Candidate> sorted_;
};

}  // namespace poeem
