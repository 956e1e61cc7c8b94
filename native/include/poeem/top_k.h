// The k best candidates seen so far: highest score first, ties to the smaller id.
#pragma once

#include <cstdint>
#include <vector>

namespace poeem {

struct Candidate {
  float score;
  std::int64_t id;
};

// The one order of results. Scores are never NaN here.
inline bool better(const Candidate& a, const Candidate& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

// A buffer with room for more than k: whenever it is full, all but the k best are dropped at once. That costs a few
// comparisons a candidate, however large k is.
class TopK {
 public:
  // Forget everything and keep at most `capacity` (>= 1) from now on; memory is kept.
  void reset(std::int64_t capacity);

  // A candidate below this score cannot get in; one that reaches it may. -inf until k were seen.
  float threshold() const { return threshold_; }

  // Take the candidate in if it may belong to the k best. The score must not be NaN.
  void offer(Candidate candidate) {
    if (candidate.score < threshold_) return;
    buffer_.push_back(candidate);
    if (buffer_.size() >= limit_) tighten();
  }

  // Raise the threshold to the k-th best score seen, if k were.
  void tighten();

  // Candidates that came in since the threshold last rose.
  std::int64_t num_waiting() const {
    return static_cast<std::int64_t>(buffer_.size()) - static_cast<std::int64_t>(capacity_);
  }

  // Best first. Ends the collection: reset() before the next offer().
  const std::vector<Candidate>& sorted();

 private:
  std::size_t capacity_ = 0;
  std::size_t limit_ = 0;
  float threshold_ = 0;
  std::vector<Candidate> buffer_;
};

}  // namespace poeem
