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

class TopK {
 public:
  // Forget everything and keep at most `capacity` (>= 1) from now on; memory is kept.
  void reset(std::int64_t capacity);

  // A candidate below this score cannot get in; one that reaches it may. -inf until k were seen.
  float threshold() const { return threshold_; }

  // Take the candidate in if it belongs to the k best. The score must not be NaN.
  void offer(Candidate candidate);

  // Best first. Ends the collection: reset() before the next offer().
  const std::vector<Candidate>& sorted();

 private:
  std::size_t capacity_ = 0;
  float threshold_ = 0;
  std::vector<Candidate> heap_;  // the worst on top
};

}  // namespace poeem
