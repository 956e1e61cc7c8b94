// Search of codes of both families: the entry points of the engine.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "poeem/index_view.h"

namespace poeem {

struct SearchRequest {
  const float* queries = nullptr;   // [num_queries, num_heads, dim], finite
  std::int64_t num_queries = 0;
  std::int64_t num_heads = 1;       // vectors of one user; an item's score is the maximum over them
  std::int64_t k = 0;               // >= 1
  std::int64_t num_probes = 0;      // lists visited by each query vector; 0 or more than there are = all
  std::int64_t num_threads = 1;     // >= 1; share queries, or the items where there are few queries
  // Codes that pay for a thread of their own, and the first threshold that it must find, where threads share the items:
  // some 0.1 ms of scanning.
  std::int64_t part_bytes = 4 << 20;
  // Bit i % 64 of word i / 64: whether the item at position i may be returned; null = all. Where the lists probed have
  // fewer than k such items, further lists are visited, best first, until there are k or no more lists.
  const std::uint64_t* allowed = nullptr;
  std::string kernel;               // empty = the best this machine can run
  // Asked by the calling thread between tasks, so many milliseconds apart: where true, `search` stops and throws Interrupted.
  // null = nobody is asked.
  bool (*is_interrupted)() = nullptr;
  std::int64_t patience_ms = 200;
  // To measure with: the items that were scored in float are added to it; null = nobody asks.
  std::atomic<std::int64_t>* num_scored = nullptr;
};

// Thrown where SearchRequest::is_interrupted says so; of the answers some may be there.
struct Interrupted {};

// Some of the items of a search. All segments have one quantizer: everything but items, offsets, codes, ids and norms is
// taken from the first.
struct Segment {
  explicit Segment(const IndexView& items, const std::uint64_t* bits = nullptr);
  Segment(const IndexView& items, const std::uint64_t* bits, std::int64_t count)
      : view(&items), wanted(bits), num_wanted(count) {}

  const IndexView* view;
  const std::uint64_t* wanted;  // one bit per item, as SearchRequest::allowed; null = all
  std::int64_t num_wanted;      // bits that are set; num_items where null
};

// Write the answers to ids and scores, both [num_queries, k], best first, padded with -1 and -inf.
// Results depend on neither threads nor kernel. Throws Error or Interrupted; joins every thread it started. Offsets of lists are followed as
// pointers: whoever made the view has called check_offsets (validate.h).
void search(const IndexView& index, const SearchRequest& request, std::int64_t* ids, float* scores);

// The same over the wanted items of at least one segment, as if they were one index; no id may be wanted in two of them.
// request.allowed is not looked at. widens: as if the items were filtered: further lists are visited until there are k.
void search(const std::vector<Segment>& segments, bool widens, const SearchRequest& request,
            std::int64_t* ids, float* scores);

}  // namespace poeem
