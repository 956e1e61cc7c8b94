// The k best candidates seen so far: highest score first, ties to the smaller id.
#pragma once

#include <cstdint>
#include <vector>

namespace poeem {

struct Arithmetic;  // src/arithmetic/arithmetic.h

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
// That costs a few operations a candidate, however large k is.
class TopK {
 public:
  explicit TopK(const Arithmetic& arithmetic) : arithmetic_(arithmetic) {}

  // Forget everything and keep the `capacity` (>= 1) best from now on; memory is kept.
  void reset(std::int64_t capacity);

  // A candidate below this score cannot get in; one that reaches it may. -inf until k were seen.
  float threshold() const { return threshold_; }

  // Whether k were seen.
  bool full() const { return scores_.size() >= capacity_; }

  // Take the candidate in if it may belong to the k best. The score must not be NaN.
  void offer(Candidate candidate) {
    if (candidate.score < threshold_) return;
    scores_.push_back(candidate.score);
    ids_.push_back(candidate.id);
    if (scores_.size() >= limit_) tighten();
  }

  // If k were seen, raise the threshold to the k-th best score or a little below.
  void tighten();

  // Tighten if that would raise the threshold by much.
  void tighten_if_worth() {
    if (scores_.size() > worth_) tighten();
  }

  // Best first. Ends the collection: reset() before the next offer().
  const std::vector<Candidate>& sorted();

 private:
  void drop_below(float threshold);
  void keep_exactly();

  const Arithmetic& arithmetic_;
  std::size_t capacity_ = 0;
  std::size_t enough_ = 0;  // so many may be left after dropping
  std::size_t worth_ = 0;
  std::size_t limit_ = 0;
  float threshold_ = 0;
  std::vector<float> scores_;        // side by side, so that a register holds several
  std::vector<std::int64_t> ids_;
  std::vector<Candidate> sorted_;
};

}  // namespace poeem
