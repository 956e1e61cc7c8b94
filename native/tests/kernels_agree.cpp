// Every kernel against the scalar one, at sizes around the edges of units and blocks; meant for the sanitizers, and for
// other machines (scripts/neon):
//   cmake -S . -B build/sanitize -DPOEEM_CORE_ONLY=ON -DPOEEM_SANITIZE=ON
//   cmake --build build/sanitize --target kernels_agree && build/sanitize/kernels_agree
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <random>
#include <vector>

#include "../src/kernels/bounds.h"
#include "encoders.h"
#include "first_looks.h"
#include "hard_tables.h"
#include "numbers.h"
#include "poeem/kernel.h"
#include "poeem/search.h"
#include "random_index.h"
#include "threads.h"

// Counts what the whole program allocates.
static std::atomic<std::int64_t> num_allocations{0};

void* operator new(std::size_t size) {
  ++num_allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
// The library's own would come from elsewhere than what frees it.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++num_allocations;
  return std::malloc(size);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  ++num_allocations;
  const auto unit = static_cast<std::size_t>(alignment);
  if (void* memory = std::aligned_alloc(unit, (size + unit - 1) / unit * unit)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

bool kernels_agree(const Index& index, std::mt19937& random) {
  constexpr std::int64_t kVectors = 4;
  const std::vector<float> queries = normal(kVectors * index.view.dim, random);
  std::vector<std::uint64_t> allowed(static_cast<std::size_t>((index.view.num_items + 63) / 64));
  for (std::int64_t i = 0; i < index.view.num_items; i += 1 + static_cast<std::int64_t>(random() % 4))
    allowed[static_cast<std::size_t>(i / 64)] |= std::uint64_t{1} << (i % 64);
  for (int variant = 0; variant < 8; ++variant) {
    poeem::SearchRequest request;
    request.queries = queries.data();
    request.num_heads = variant & 1 ? kVectors : 1;
    request.num_queries = kVectors / request.num_heads;
    request.num_threads = variant & 2 ? 3 : 1;
    request.part_bytes = 1;  // so that few queries are split
    if (variant & 4) request.allowed = allowed.data();
    request.num_probes = index.view.num_lists > 0 ? 2 : 0;
    request.k = 7;
    if (!kernels_answer_alike(index.view, request)) return false;
  }
  return true;
}

// Cut in two, each with every other item, it answers as the whole.
bool segments_agree(const Index& index, std::mt19937& random) {
  const std::vector<float> queries = normal(2 * index.view.dim, random);
  const auto num_words = static_cast<std::size_t>((index.view.num_items + 63) / 64);
  std::vector<std::uint64_t> even(num_words, 0x5555555555555555), odd(num_words, 0xAAAAAAAAAAAAAAAA);
  const int beyond = static_cast<int>(num_words * 64 - static_cast<std::size_t>(index.view.num_items));
  even.back() &= ~std::uint64_t{0} >> beyond;
  odd.back() &= ~std::uint64_t{0} >> beyond;
  const std::vector<poeem::Segment> segments = {poeem::Segment(index.view, even.data()),
                                                poeem::Segment(index.view, odd.data())};
  for (std::int64_t probes : {0, 2, 8}) {
    poeem::SearchRequest request;
    request.queries = queries.data();
    request.num_queries = 2;
    request.num_probes = probes;
    request.k = 7;
    request.kernel = "scalar";
    const Answer truth = answer(index.view, request);
    Answer found = truth;
    for (const poeem::Kernel& kernel : poeem::all_kernels()) {
      request.kernel = kernel.name;
      if (!kernel.supported()) continue;
      poeem::search(segments, false, request, found.ids.data(), found.scores.data());
      if (!(found == truth)) return false;
    }
  }
  return true;
}

// After a call has warmed the thread's memory up, queries allocate nothing: twice as many, the second half as the first, cost
// as many allocations.
// Nor does a call of one query ask for more than the list of its segments, and of what its heads find.
bool allocates_per_query(const Index& index, std::int64_t num_heads, std::mt19937& random) {
#if defined(__SANITIZE_ADDRESS__)  // there memory is not kept (scratch.h), and what heads find is put together in some
  if (num_heads > 1) return false;
#endif
  constexpr std::int64_t kQueries = 192;  // a multiple of the rows that are scanned together
  std::vector<float> queries = normal(kQueries * num_heads * index.view.dim, random);
  queries.insert(queries.end(), queries.begin(), queries.end());
  poeem::SearchRequest request;
  request.num_heads = num_heads;
  request.queries = queries.data();
  request.k = 7;
  request.num_probes = index.view.num_lists > 0 ? 2 : 0;
  std::vector<std::int64_t> ids(static_cast<std::size_t>(2 * kQueries * request.k));
  std::vector<float> scores(ids.size());
  const auto count = [&](std::int64_t num_queries) {
    request.num_queries = num_queries;
    const std::int64_t before = num_allocations;
    poeem::search(index.view, request, ids.data(), scores.data());
    return num_allocations - before;
  };
  count(2 * kQueries);
  if (count(kQueries) != count(2 * kQueries)) return true;
#if defined(__SANITIZE_ADDRESS__)
  return false;
#else
  count(1);
  const std::int64_t least = num_heads > 1 ? 2 : 1;  // what several heads find is put together
  return count(1) > least || count(1) > least;
#endif
}

// Nor do the threads that help with a call, once they were as many and had as much to do: what is asked for is theirs to run.
bool helpers_allocate(std::mt19937& random) {
#if defined(__SANITIZE_ADDRESS__)
  (void)random;
  return false;
#else
  constexpr std::int64_t kQueries = 256, kHelpers = 2, kOfEach = 4;  // of a thread: its state, and room
  const Index index({3000, 4, 256, 0, Metric::kInnerProduct, true}, random);
  const std::vector<float> queries = normal(kQueries * index.view.dim, random);
  poeem::SearchRequest request;
  request.queries = queries.data();
  request.num_queries = kQueries;
  request.num_threads = 1 + kHelpers;
  request.k = 100;
  std::vector<std::int64_t> ids(static_cast<std::size_t>(kQueries * request.k));
  std::vector<float> scores(ids.size());
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (int call = 0; call < 50; ++call) {  // which of them gets most to do is chance
    const std::int64_t before = num_allocations;
    poeem::search(index.view, request, ids.data(), scores.data());
    least = std::min<std::int64_t>(least, num_allocations - before);
  }
  return least > kHelpers * kOfEach + 4;
#endif
}

// A search stops where its caller says so, by one thread or several, and goes on where it does not.
bool stops_when_asked(std::mt19937& random) {
  const Index index({1000, 4, 256, 0, Metric::kInnerProduct, false}, random);
  constexpr std::int64_t kQueries = 1000;
  const std::vector<float> queries = normal(kQueries * index.view.dim, random);
  poeem::SearchRequest request;
  request.queries = queries.data();
  request.num_queries = kQueries;
  request.k = 3;
  request.patience_ms = 0;
  std::vector<std::int64_t> ids(kQueries * 3);
  std::vector<float> scores(ids.size());
  static int num_asked;
  for (request.num_threads = 1; request.num_threads <= 3; ++request.num_threads)
    for (const int wanted : {1, 3, 1 << 30}) {
      static int at;
      at = wanted;
      num_asked = 0;
      request.is_interrupted = [] { return ++num_asked == at; };
      bool stopped = false;
      try {
        poeem::search(index.view, request, ids.data(), scores.data());
      } catch (const poeem::Interrupted&) {
        stopped = true;
      }
      // With several threads the calling one may get too few tasks to ask so often.
      if (stopped != (num_asked == wanted) || (request.num_threads == 1 && stopped != (wanted < 4))) return false;
    }
  return true;
}

// What a kernel looks at: poeem::Look, or 4-bit codes.
constexpr int kNibbles = poeem::kNumLooks;

// Bytes of a column's table.
std::int64_t table_bytes(int look) { return look == kNibbles ? 32 : poeem::num_entries(look); }

int entry_of(int look, const std::uint8_t* table, int code) {
  if (look == kNibbles) return table[code & 15] + table[16 + (code >> 4)];
  return table[code % poeem::num_entries(look)];
}

// Two queries at once, the second with its table and limit changed, against one at a time.
bool two_agree(const poeem::Kernel& kernel, int look, poeem::BoundTask a) {
  if (look == kNibbles || kernel.bound_bytes_of_two[look] == nullptr) return true;
  a.begin = 0;
  a.end = 8;
  std::vector<std::uint8_t> other(a.table, a.table + a.num_columns * table_bytes(look));
  for (std::uint8_t& entry : other) entry = static_cast<std::uint8_t>(entry / 2 + 1);
  poeem::BoundTask b = a;
  b.table = other.data();
  b.limit = static_cast<std::uint16_t>(a.limit / 2);
  std::vector<std::uint64_t> alone_a(8), alone_b(8), pair_a(8), pair_b(8);
  kernel.bound_bytes[look](a, alone_a.data());
  kernel.bound_bytes[look](b, alone_b.data());
  kernel.bound_bytes_of_two[look](a, b, pair_a.data(), pair_b.data());
  return pair_a == alone_a && pair_b == alone_b;
}

// The masks themselves, bit by bit: a search would only be slower if a kernel let too much through. All numbers are
// integers that floats hold, so there is one right answer.
bool masks_agree(int look, std::int64_t columns, std::int64_t group_columns, bool with_norms,
                 std::mt19937& random) {
  constexpr std::int64_t kBlocks = 3, kBegin = 1, kEnd = 4 * kBlocks - 1;
  const auto bytes = [&random](std::int64_t count) {
    std::vector<std::uint8_t> values(static_cast<std::size_t>(count));
    for (std::uint8_t& value : values) value = static_cast<std::uint8_t>(random() >> 8);
    return values;
  };
  const std::vector<std::uint8_t> codes = bytes(kBlocks * columns * poeem::kColumnBytes);
  std::vector<std::uint8_t> entries = bytes(columns * table_bytes(look) + 64);
  for (std::uint8_t& entry : entries) entry = static_cast<std::uint8_t>(entry >> random() % 8);  // some saturate
  const std::uint8_t* table =
      entries.data() + (-reinterpret_cast<std::uintptr_t>(entries.data())) % 64;
  std::vector<float> norms(static_cast<std::size_t>(4 * kBlocks * 64));
  for (float& norm : norms) norm = static_cast<float>(random() % 20 * 16);
  poeem::BoundTask task{};
  task.codes = codes.data();
  task.begin = kBegin;
  task.end = kEnd;
  task.last = 4 * kBlocks;
  task.num_columns = columns;
  task.table = table;
  task.group_columns = group_columns;
  const std::int64_t middle = std::min<std::int64_t>(columns * (look == kNibbles ? 63 : 32), (columns + group_columns - 1) / group_columns * 250);
  task.limit = static_cast<std::uint16_t>(middle);
  if (with_norms) {
    task.norms = norms.data();
    task.scale = 2.0F, task.offset = 3.0F, task.factor = 2.0F;
    task.shift = static_cast<float>(-2 * middle - 300);
  }
  std::vector<std::uint64_t> truth(kEnd - kBegin), found(kEnd - kBegin);
  for (std::int64_t item = kBegin * 64; item < kEnd * 64; ++item) {
    std::int64_t sum = 0;
    for (std::int64_t first = 0; first < columns; first += group_columns) {
      std::int64_t group = 0;
      for (std::int64_t c = first; c < std::min(first + group_columns, columns); ++c) {
        const int code = codes[static_cast<std::size_t>((item / 256 * columns + c) * 256 + item % 256)];
        group += entry_of(look, table + c * table_bytes(look), code);
      }
      sum += std::min<std::int64_t>(group, 255);
    }
    const float norm = norms[static_cast<std::size_t>(item)];
    const bool passes = with_norms ? norm == 0.0F || 3.0F - 2.0F * static_cast<float>(sum) >=
                                                         task.factor * norm + task.shift
                                   : sum <= task.limit;
    if (passes)
      truth[static_cast<std::size_t>(item / 64 - kBegin)] |= std::uint64_t{1} << (item % 64);
  }
  for (const poeem::Kernel& kernel : poeem::all_kernels()) {
    const poeem::BoundFunction bound = look == kNibbles ? kernel.bound_nibbles : kernel.bound_bytes[look];
    if (!kernel.supported() || kernel.bound_bytes[0] == nullptr) continue;
    if (bound == nullptr) return false;  // who has one look has all
    for (const poeem::Fetch fetch : {poeem::Fetch::kFirstLevel, poeem::Fetch::kSecondLevel, poeem::Fetch::kNowhere}) {
      task.fetch = fetch;
      std::fill(found.begin(), found.end(), 0);
      bound(task, found.data());
      if (found != truth || !two_agree(kernel, look, task)) return false;
    }
  }
  return true;
}

}  // namespace

// With a number n, every n-th index only: an emulated machine takes a minute for each hundred.
int main(int argc, char** argv) {
  const long every = argc > 1 ? std::max(1L, std::atol(argv[1])) : 1;
  std::mt19937 random(1);
  int num_cases = 0;
  long place = 0;
  for (std::int64_t items : {1, 63, 64, 65, 255, 256, 257, 300, 511, 700, 1500, 4000})
    for (std::int64_t subspaces : {1, 2, 3, 8, 17})
      for (std::int64_t codewords : {16, 256, 300})
        for (std::int64_t lists : {0, 3, 40})
          for (Metric metric : {Metric::kInnerProduct, Metric::kL2, Metric::kCosine})
            for (bool full_width : {false, true}) {
              if (place++ % every != 0) continue;
              const Index index({items, subspaces, codewords, lists, metric, full_width}, random);
              if (!kernels_agree(index, random) || !segments_agree(index, random)) {
                std::printf("differ: %ld items, %ld x %ld, %ld lists, metric %d, full width %d\n",
                            static_cast<long>(items), static_cast<long>(subspaces),
                            static_cast<long>(codewords), static_cast<long>(lists),
                            static_cast<int>(metric), static_cast<int>(full_width));
                return 1;
              }
              if (subspaces <= 8 && (allocates_per_query(index, 1, random) || allocates_per_query(index, 3, random))) {
                std::printf("allocates for each query: %ld items, %ld x %ld, %ld lists, metric %d\n", static_cast<long>(items),
                            static_cast<long>(subspaces), static_cast<long>(codewords), static_cast<long>(lists),
                            static_cast<int>(metric));
                return 1;
              }
              ++num_cases;
            }
  // So many that no shortlist has all of them.
  for (std::int64_t subspaces : {3, 16, 17})
    for (std::int64_t lists : {0, 2, 40})
      for (const bool by_distance : {false, true}) {
        const Metric metric = by_distance ? Metric::kL2 : Metric::kInnerProduct;
        // Without lists distances of product codes have tables of their own, and no norms.
        const bool full_width = by_distance && lists == 0;
        Index index({subspaces > 16 ? 40'000 : 9000, subspaces, 256, lists, metric, full_width}, random);
        // Norms from nothing to what sums cannot hold.
        for (std::size_t i = 0; i < index.norms.size(); ++i) index.norms[i] *= std::ldexp(1.0F, static_cast<int>(i % 16) - 6);
        if (!kernels_agree(index, random) || !segments_agree(index, random)) {
          std::printf("differ: many items, %ld subspaces, %ld lists, metric %d\n", static_cast<long>(subspaces),
                      static_cast<long>(lists), static_cast<int>(metric));
          return 1;
        }
      }
  if (!hard_tables_agree(random)) return 1;
  if (!first_looks_agree(random)) return 1;
  if (!threads_behave()) return 1;
  if (helpers_allocate(random)) {
    std::printf("threads that help allocate at each call\n");
    return 1;
  }
  if (!stops_when_asked(random)) {
    std::printf("a search does not stop when asked\n");
    return 1;
  }
  for (std::int64_t columns : {1, 2, 3, 8, 31, 128})
    for (int look = 0; look <= kNibbles; ++look)
      for (int variant = 0; variant < 4; ++variant)
        if (!masks_agree(look, columns, variant & 2 ? 3 : 16, variant & 1, random)) {
          std::printf("differ: masks of %ld columns, look %d, variant %d\n", static_cast<long>(columns),
                      look, variant);
          return 1;
        }
  if (!encoders_agree(random)) return 1;
  std::printf("chosen: %s\n%d indexes: all kernels agree\n", poeem::choose_kernel("").name, num_cases);
  return 0;
}
