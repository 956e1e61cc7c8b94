#include "poeem/search.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <numeric>
#include <thread>
#include <vector>

#include "arithmetic/arithmetic.h"
#include "parallel.h"
#include "poeem/error.h"
#include "poeem/kernel.h"
#include "poeem/top_k.h"
#include "row_scan.h"

namespace poeem {
namespace {

void check(const SearchRequest& request) {
  if (request.k < 1) throw Error(ErrorCode::kConfig, "k: wanted at least 1");
  if (request.num_probes < 0) throw Error(ErrorCode::kConfig, "num_probes: wanted at least 1");
  if (request.num_threads < 1) throw Error(ErrorCode::kConfig, "num_threads: wanted at least 1");
  if (request.part_bytes < 1) throw Error(ErrorCode::kConfig, "part_bytes: wanted at least 1");
}

void check(const IndexView& index) {
  if (index.uses_norms() && index.norms == nullptr)
    throw Error(ErrorCode::kShape, "norms: missing, and this metric needs them");
}

// Where fewer than one item in so many is wanted, those are scored one by one and bounds would only cost.
constexpr std::int64_t kSparse = 64;

// A segment is scanned in its order, with a look at each of its lists, where at least one in so many of them is probed.
constexpr std::int64_t kManyLists = 8;

// How the work of a call is cut: groups of queries that share codes while they are in the cache, and, where there
// are fewer queries than threads, parts of the catalogue.
struct Plan {
  Plan(const std::vector<Segment>& segments, bool widening, const SearchRequest& request) {
    const IndexView& index = *segments[0].view;
    std::int64_t num_items = 0, num_wanted = 0;
    for (const Segment& segment : segments) {
      num_items += segment.view->num_items;
      num_wanted += segment.num_wanted;
      num_blocks += segment.view->num_blocks();
    }
    sparse = num_wanted * kSparse < num_items;
    capacity = std::min(request.k, std::max<std::int64_t>(num_wanted, 1));
    num_probes = request.num_probes == 0 ? index.num_lists
                                         : std::min(request.num_probes, index.num_lists);
    widens = widening && index.num_lists > 0;
    chunk_items = std::max<std::int64_t>(kChunkBytes / index.block_bytes(), 1) * kBlockItems;
    const std::int64_t threads = request.num_threads;
    const std::int64_t queries = std::max<std::int64_t>(request.num_queries, 1);
    num_rows = std::clamp<std::int64_t>(kTableBytes / (index.columns() * 256), 1, kMaxRows);
    // Each has lists of its own, and shares with others only what its plan is made of.
    // Several threads get smaller shares, so that none waits long for the last one.
    if (index.num_lists > 0) num_rows = std::min(num_rows, threads > 1 ? kListRows / 2 : kListRows);
    num_rows = std::min(num_rows, queries * request.num_heads);
    const std::int64_t wanted = std::max<std::int64_t>(num_rows / request.num_heads, 1);
    std::int64_t groups = (queries + wanted - 1) / wanted;
    if (queries >= threads) groups = std::min((groups + threads - 1) / threads * threads, queries);
    if (queries < threads) groups = queries;
    group_queries = (queries + groups - 1) / groups;
    num_groups = (queries + group_queries - 1) / group_queries;
    if (queries >= threads) return;
    const std::int64_t probed = index.num_lists == 0 ? 1 : num_probes;
    const std::int64_t lists = index.num_lists == 0 ? 1 : index.num_lists;
    const std::int64_t bytes = num_blocks * index.block_bytes() / lists * probed;
    num_parts = std::min((threads + queries - 1) / queries, bytes / request.part_bytes);
    if (index.num_lists > 0) num_parts = std::min(num_parts, num_probes);
    // Whether to visit more lists is known only to who has seen all of them.
    if (widens) num_parts = 1;
    num_parts = std::max<std::int64_t>(num_parts, 1);
  }

  static constexpr std::int64_t kChunkBytes = 128 << 10;  // codes that stay in the second-level cache
  static constexpr std::int64_t kTableBytes = 192 << 10;  // and bounds beside them
  static constexpr std::int64_t kMaxRows = 64;
  static constexpr std::int64_t kListRows = 12;

  std::int64_t num_blocks = 0;     // of all segments
  bool sparse = false;
  std::int64_t capacity = 1, num_probes = 0, chunk_items = 0;
  bool widens = false;             // to further lists, until there are k
  std::int64_t num_rows = 1;       // query vectors scanned together
  std::int64_t group_queries = 1;  // queries of one task
  std::int64_t num_groups = 1;
  std::int64_t num_parts = 1;      // parts of the catalogue, a task each
};

// Answers groups of queries; each thread has its own.
class Worker {
 public:
  Worker(const std::vector<Segment>& segments, const SearchRequest& request, const Kernel& kernel,
         const Plan& plan)
      : index_(*segments[0].view), segments_(segments), request_(request), plan_(plan),
        planner_(index_, kernel) {
    rows_.reserve(static_cast<std::size_t>(plan.num_rows));
    for (std::int64_t i = 0; i < plan.num_rows; ++i)
      rows_.emplace_back(segments, kernel, plan.capacity, plan.sparse);
  }

  // Find the best of one part of the items for query vectors [begin, end), then take(vector, candidates).
  template <class Take>
  void answer(std::int64_t begin, std::int64_t end, std::int64_t part, const Take& take) {
    for (; begin < end; begin += plan_.num_rows) {
      const std::int64_t count = std::min(plan_.num_rows, end - begin);
      planner_.clear();
      for (std::int64_t i = 0; i < count; ++i)
        planner_.add(request_.queries + (begin + i) * index_.dim, row(i).plan());
      planner_.choose_lists(plan_.num_probes, plan_.widens);
      for (std::int64_t i = 0; index_.num_lists > 0 && i < count; ++i) look_ahead(row(i), part);
      row(0).ahead().fetch(kFirstLines);
      planner_.make_tables();
      for (std::int64_t i = 0; i < count; ++i) row(i).reset();
      if (index_.num_lists == 0) scan_all(count, part);
      for (std::int64_t i = 0; i < count; ++i) {
        if (index_.num_lists > 0) scan_lists(row(i), part);
        if (i + 1 < count) row(i + 1).ahead().fetch(kFirstLines);
        take(begin + i, row(i).sorted());
        if (request_.num_scored != nullptr) request_.num_scored->fetch_add(row(i).num_scored());
      }
    }
  }

 private:
  RowScan& row(std::int64_t i) { return rows_[static_cast<std::size_t>(i)]; }

  // A part is a range of the blocks of all segments, one after the other.
  void scan_all(std::int64_t num_rows, std::int64_t part) {
    std::int64_t begin = plan_.num_blocks * part / plan_.num_parts;
    std::int64_t end = plan_.num_blocks * (part + 1) / plan_.num_parts;
    for (const Segment& segment : segments_) {
      const std::int64_t blocks = segment.view->num_blocks();
      scan_blocks(num_rows, segment, std::max<std::int64_t>(begin, 0), std::min(end, blocks));
      begin -= blocks, end -= blocks;
    }
  }

  // Every chunk of codes serves all rows before the next is touched.
  void scan_blocks(std::int64_t num_rows, const Segment& segment, std::int64_t begin, std::int64_t end) {
    const std::int64_t num_items = segment.view->num_items;
    const std::int64_t last = std::min(end * kBlockItems, num_items);
    const std::int64_t step = num_rows == 1 ? num_items : plan_.chunk_items;
    for (std::int64_t first = begin * kBlockItems; first < last; first += step) {
      const std::int64_t next = std::min(first + step, last);
      std::int64_t i = 0;
      for (; i + 2 <= num_rows; i += 2) RowScan::scan_two(row(i), row(i + 1), segment, first, next);
      if (i < num_rows) row(i).scan(segment, first, next, row(i).plan().bias(0));
    }
  }

  void scan_lists(RowScan& scan, std::int64_t part) {
    const std::size_t first_late = first_with_short_lists();
    for (std::int64_t i = part; i < plan_.num_probes; i += plan_.num_parts) {
      scan.ahead().skip();
      scan_list(scan, i, 0, first_late);
    }
    for (std::size_t late = first_late; late < segments_.size(); ++late) {
      if (scan.scan_probed(segments_[late])) continue;
      for (std::int64_t i = part; i < plan_.num_probes; i += plan_.num_parts) scan_list(scan, i, late, late + 1);
    }
    if (!plan_.widens || scan.full()) return;
    scan.list_all();
    for (std::int64_t i = plan_.num_probes; i < index_.num_lists && !scan.full(); ++i)
      scan_list(scan, i, 0, segments_.size());
  }

  // The codes of the first segment, which has most of them.
  void look_ahead(RowScan& scan, std::int64_t part) const {
    scan.ahead().clear();
    for (std::int64_t i = part; i < plan_.num_probes; i += plan_.num_parts) {
      const std::int64_t* offsets = index_.list_offsets + scan.plan().probes()[static_cast<std::size_t>(i)];
      scan.ahead().add(index_.block(offsets[0] / kBlockItems),
                       index_.block((offsets[1] + kBlockItems - 1) / kBlockItems));
    }
  }

  // The first of the segments, which are the smaller the later they are, whose blocks are fewer than the lists that are
  // probed; none where looking at all lists would take longer than visiting those.
  std::size_t first_with_short_lists() const {
    std::size_t number = segments_.size();
    if (plan_.num_parts > 1 || index_.num_lists > plan_.num_probes * kManyLists) return number;
    while (number > 1 && segments_[number - 1].view->num_blocks() <= plan_.num_probes) --number;
    return number;
  }

  // The rows of the list that is probed after `place` others, in some of the segments.
  void scan_list(RowScan& scan, std::int64_t place, std::size_t begin, std::size_t end) const {
    const std::int64_t list = scan.plan().probes()[static_cast<std::size_t>(place)];
    const float bias = scan.plan().bias(list);
    if (scan.is_hopeless(bias)) return;
    for (; begin < end; ++begin) {
      const std::int64_t* offsets = segments_[begin].view->list_offsets + list;
      if (offsets[0] < offsets[1]) scan.scan(segments_[begin], offsets[0], offsets[1], bias);
    }
  }

  static constexpr int kFirstLines = 128;  // of codes, fetched while tables are made or the query before is finished

  const IndexView& index_;  // for the quantizer
  const std::vector<Segment>& segments_;
  const SearchRequest& request_;
  const Plan& plan_;
  QueryPlanner planner_;
  ScratchVector<RowScan> rows_;
};

// Whether the caller wants no more of a search that takes long.
class Watch {
 public:
  explicit Watch(const SearchRequest& request)
      : asked_(request.is_interrupted), patience_(request.patience_ms), caller_(std::this_thread::get_id()) {}

  void check() {
    if (asked_ == nullptr || std::this_thread::get_id() != caller_) return;
    const Clock::time_point now = Clock::now();
    if (now < next_) return;
    if (next_ != Clock::time_point() && asked_()) throw Interrupted();
    next_ = now + patience_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  bool (*asked_)();
  std::chrono::milliseconds patience_;
  std::thread::id caller_;
  Clock::time_point next_;  // of the calling thread; a call of one task looks at no clock
};

// The k best of the maximum over heads are all among the k best of some head.
void keep_best_of_each_id(ScratchVector<Candidate>& merged) {
  // Places are sorted, and not by a stable sort, which would ask for memory at each query: of equal scores (0 and -0 are
  // equal) the first head's stays.
  ScratchVector<std::int64_t> order(merged.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&merged](std::int64_t i, std::int64_t j) {
    const Candidate &a = merged[static_cast<std::size_t>(i)], &b = merged[static_cast<std::size_t>(j)];
    if (a.id != b.id) return a.id < b.id;
    return a.score > b.score || (a.score == b.score && i < j);
  });
  ScratchVector<Candidate> kept;
  kept.reserve(merged.size());
  for (const std::int64_t place : order) {
    const Candidate& found = merged[static_cast<std::size_t>(place)];
    if (kept.empty() || kept.back().id != found.id) kept.push_back(found);
  }
  merged.swap(kept);
}

void write(const ScratchVector<Candidate>& found, std::int64_t k, std::int64_t* ids, float* scores) {
  const auto count = std::min(k, static_cast<std::int64_t>(found.size()));
  for (std::int64_t i = 0; i < count; ++i) {
    ids[i] = found[static_cast<std::size_t>(i)].id;
    scores[i] = found[static_cast<std::size_t>(i)].score;
  }
  std::fill(ids + count, ids + k, std::int64_t{-1});
  std::fill(scores + count, scores + k, -std::numeric_limits<float>::infinity());
}

}  // namespace

Segment::Segment(const IndexView& items, const std::uint64_t* bits)
    : view(&items), wanted(bits), num_wanted(bits == nullptr ? items.num_items : 0) {
  if (bits != nullptr)
    num_wanted = choose_kernel("").arithmetic->count_bits(bits, (items.num_items + 63) / 64);
}

void search(const IndexView& index, const SearchRequest& request, std::int64_t* ids, float* scores) {
  search({Segment(index, request.allowed)}, request.allowed != nullptr, request, ids, scores);
}

void search(const std::vector<Segment>& segments, bool widens, const SearchRequest& request,
            std::int64_t* ids, float* scores) {
  check(request);
  for (const Segment& segment : segments) check(*segment.view);
  const Kernel& kernel = choose_kernel(request.kernel);
  const Plan plan(segments, widens, request);
  const std::int64_t heads = request.num_heads, parts = plan.num_parts, k = request.k;
  // What heads and parts found, where there are several: [num_queries, num_parts].
  const bool merges = heads > 1 || parts > 1;
  std::vector<ScratchVector<Candidate>> found(
      merges ? static_cast<std::size_t>(request.num_queries * parts) : 0);

  const std::int64_t num_tasks = plan.num_groups * parts;
  Watch watch(request);
  const auto work = [&](TaskCounter& tasks) {
    Worker worker(segments, request, kernel, plan);
    for (std::int64_t task = tasks.next(); task < num_tasks; task = tasks.next()) {
      if (task > 0) watch.check();
      const std::int64_t part = task % parts;
      const std::int64_t begin = task / parts * plan.group_queries;
      const std::int64_t end = std::min(begin + plan.group_queries, request.num_queries);
      worker.answer(begin * heads, end * heads, part,
                    [&](std::int64_t row, const ScratchVector<Candidate>& best) {
        const std::int64_t query = row / heads;
        if (!merges) return write(best, k, ids + query * k, scores + query * k);
        ScratchVector<Candidate>& all = found[static_cast<std::size_t>(query * parts + part)];
        all.insert(all.end(), best.begin(), best.end());
        if (heads > 1 && row % heads == heads - 1) keep_best_of_each_id(all);
      });
    }
  };
  run_tasks(num_tasks, request.num_threads, std::ref(work));  // a reference fits without a block of memory
  if (!merges) return;
  for (std::int64_t query = 0; query < request.num_queries; ++query) {
    ScratchVector<Candidate>& all = found[static_cast<std::size_t>(query * parts)];
    for (std::int64_t part = 1; part < parts; ++part) {
      const auto& more = found[static_cast<std::size_t>(query * parts + part)];
      all.insert(all.end(), more.begin(), more.end());
    }
    std::sort(all.begin(), all.end(), better);
    write(all, k, ids + query * k, scores + query * k);
  }
}

}  // namespace poeem
