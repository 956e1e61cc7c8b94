// What one query vector needs before any item is looked at: rotation, table, biases, lists to probe.
#pragma once

#include <cstdint>

#include "poeem/index_view.h"
#include "poeem/kernel.h"
#include "poeem/scratch.h"

namespace poeem {

struct Extent;  // arithmetic/arithmetic.h

// What a query vector needs, reused from one to the next.
class QueryPlan {
 public:
  QueryPlan(const IndexView& index, const Kernel& kernel);

  // Put so many lists in the order of probing; QueryPlanner does it for those that it was told.
  void choose_lists(std::int64_t num_probes);

  const float* table() const { return table_.data(); }                    // [num_subspaces, table_stride]
  float bias(std::int64_t list) const { return biases_[static_cast<std::size_t>(list)]; }  // list 0 where there are none
  // [num_lists], -inf for lists that are not probed; finite biases only.
  const ScratchVector<float>& probed_biases();
  const ScratchVector<std::int64_t>& probes() const { return probes_; }     // best list first

 private:
  friend class QueryPlanner;

  void finish_biases();
  bool find_by_bounds(std::int64_t num_probes);
  void exact_biases();
  void rank_found(std::int64_t num_probes, const float* scores);
  const float* score_lists();
  float least_probed(const float* scores, const Extent& extent, std::int64_t num_probes) const;
  void collect(const float* scores, float least);

  const IndexView& index_;
  const Kernel& kernel_;
  ScratchVector<float> normalized_;      // [dim], cosine only
  ScratchVector<float> rotated_;         // [dim]
  ScratchVector<float> table_;           // [num_subspaces, table_stride]
  ScratchVector<float> biases_;          // [num_lists], at least one
  ScratchVector<float> probe_scores_;    // [num_lists], unless they are the biases
  ScratchVector<float> low_, high_;      // bounds of the biases, where lists are chosen by them
  ScratchVector<std::uint8_t> bytes_;    // of the rotated query, then
  ScratchVector<std::int32_t> found_;    // lists that may be probed, rising
  ScratchVector<float> found_scores_;    // of these
  ScratchVector<std::int32_t> ranks_;
  ScratchVector<float> probed_biases_;
  ScratchVector<std::int64_t> probes_;
};

// Makes plans, many at a time: they share each load of a codeword. Working memory of one thread.
class QueryPlanner {
 public:
  QueryPlanner(const IndexView& index, const Kernel& kernel) : index_(index), kernel_(kernel) {}

  // Forget all plans added.
  void clear() { plans_.clear(), queries_.clear(), has_tables_ = false; }
  // query: [dim].
  void add(const float* query, QueryPlan& plan);
  // Fill in the plans added, in two steps: first their lists, whose codes can be fetched meanwhile, then tables.
  // num_probes: 1 to num_lists (ignored without lists). widens: all lists may be put in order later, so that each needs its bias.
  void choose_lists(std::int64_t num_probes, bool widens);
  void make_tables();

 private:
  bool choose_by_bounds(std::int64_t num_probes);
  void normalize();
  void rotate();
  void build_tables();
  void build_distance_tables();
  void compute_biases();
  template <class From, class To>
  void multiply(const float* matrix, const float* matrix_t, std::int64_t panel, std::int64_t num_rows,
                std::int64_t width, const From& from, const To& to);

  const IndexView& index_;
  const Kernel& kernel_;
  bool has_tables_ = false;            // whether the plans have theirs
  ScratchVector<QueryPlan*> plans_;
  ScratchVector<const float*> queries_;
  ScratchVector<const float*> from_;     // of one multiplication
  ScratchVector<float*> to_;
};

}  // namespace poeem
