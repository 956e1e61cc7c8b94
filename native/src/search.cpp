#include "poeem/search.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "parallel.h"
#include "poeem/error.h"
#include "poeem/kernel.h"
#include "poeem/top_k.h"
#include "query.h"

namespace poeem {
namespace {

void check(const IndexView& index, const SearchRequest& request) {
  if (request.k < 1) throw Error(ErrorCode::kConfig, "k: wanted at least 1");
  if (request.num_probes < 0) throw Error(ErrorCode::kConfig, "num_probes: wanted at least 1");
  if (request.num_threads < 1) throw Error(ErrorCode::kConfig, "num_threads: wanted at least 1");
  if (index.uses_norms() && index.norms == nullptr)
    throw Error(ErrorCode::kShape, "norms: missing, and this metric needs them");
  if (index.num_lists == 0) return;
  // The only offsets that are followed as pointers, so they are checked here too.
  const std::int64_t* offsets = index.list_offsets;
  bool good = offsets[0] == 0 && offsets[index.num_lists] == index.num_items;
  for (std::int64_t l = 0; l < index.num_lists; ++l) good = good && offsets[l] <= offsets[l + 1];
  if (!good) throw Error(ErrorCode::kCorrupt, "list_offsets: do not rise from 0 to num_items");
}

// Answers queries one at a time; each thread has its own.
class Worker {
 public:
  Worker(const IndexView& index, const SearchRequest& request, const Kernel& kernel)
      : index_(index), request_(request), kernel_(kernel), plan_(index),
        capacity_(std::min(request.k, std::max<std::int64_t>(index.num_items, 1))),
        num_probes_(request.num_probes == 0 ? index.num_lists
                                            : std::min(request.num_probes, index.num_lists)) {}

  void answer(std::int64_t query, std::int64_t* ids, float* scores) {
    const float* vectors = request_.queries + query * request_.num_heads * index_.dim;
    if (request_.num_heads == 1) {
      write(scan_items(vectors), ids, scores);
      return;
    }
    merged_.clear();
    for (std::int64_t head = 0; head < request_.num_heads; ++head) {
      const std::vector<Candidate>& found = scan_items(vectors + head * index_.dim);
      merged_.insert(merged_.end(), found.begin(), found.end());
    }
    keep_best_of_each_id();
    write(merged_, ids, scores);
  }

 private:
  const std::vector<Candidate>& scan_items(const float* vector) {
    plan_.prepare(vector, num_probes_);
    best_.reset(capacity_);
    if (index_.num_lists == 0) {
      kernel_.scan(index_, 0, index_.num_items, plan_.table(), 0.0F, best_);
    }
    for (std::int64_t list : plan_.probes()) {
      kernel_.scan(index_, index_.list_offsets[list], index_.list_offsets[list + 1], plan_.table(),
                   plan_.bias(list), best_);
    }
    return best_.sorted();
  }

  // The k best of the maximum over heads are all among the k best of some head.
  void keep_best_of_each_id() {
    // Stable: of equal scores (0 and -0 are equal) the first head's stays.
    std::stable_sort(merged_.begin(), merged_.end(), [](const Candidate& a, const Candidate& b) {
      return a.id < b.id || (a.id == b.id && a.score > b.score);
    });
    const auto same = [](const Candidate& a, const Candidate& b) { return a.id == b.id; };
    merged_.erase(std::unique(merged_.begin(), merged_.end(), same), merged_.end());
    std::sort(merged_.begin(), merged_.end(), better);
  }

  void write(const std::vector<Candidate>& found, std::int64_t* ids, float* scores) const {
    const auto count = std::min(request_.k, static_cast<std::int64_t>(found.size()));
    for (std::int64_t i = 0; i < count; ++i) {
      ids[i] = found[static_cast<std::size_t>(i)].id;
      scores[i] = found[static_cast<std::size_t>(i)].score;
    }
    std::fill(ids + count, ids + request_.k, std::int64_t{-1});
    std::fill(scores + count, scores + request_.k, -std::numeric_limits<float>::infinity());
  }

  const IndexView& index_;
  const SearchRequest& request_;
  const Kernel& kernel_;
  QueryPlan plan_;
  TopK best_;
  std::vector<Candidate> merged_;
  std::int64_t capacity_;
  std::int64_t num_probes_;
};

}  // namespace

void search(const IndexView& index, const SearchRequest& request, std::int64_t* ids, float* scores) {
  check(index, request);
  const Kernel& kernel = choose_kernel(request.kernel);
  run_tasks(request.num_queries, request.num_threads, [&](TaskCounter& tasks) {
    Worker worker(index, request, kernel);
    for (std::int64_t query = tasks.next(); query < request.num_queries; query = tasks.next())
      worker.answer(query, ids + query * request.k, scores + query * request.k);
  });
}

}  // namespace poeem
