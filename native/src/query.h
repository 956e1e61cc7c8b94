// What one query vector needs before any item is looked at: rotation, table, biases, lists to probe.
#pragma once

#include <cstdint>
#include <vector>

#include "arithmetic/arithmetic.h"
#include "poeem/index_view.h"

namespace poeem {

// Working memory of one thread, reused from query to query.
class QueryPlan {
 public:
  QueryPlan(const IndexView& index, const Arithmetic& arithmetic);

  // query: [dim]. num_probes: 1 to num_lists (ignored without lists).
  void prepare(const float* query, std::int64_t num_probes);

  // Put so many lists in the order of probing; prepare() does it for those that it was told.
  void choose_lists(std::int64_t num_probes);

  const float* table() const { return table_.data(); }                    // [num_subspaces, table_stride]
  float bias(std::int64_t list) const { return biases_[static_cast<std::size_t>(list)]; }
  const std::vector<std::int64_t>& probes() const { return probes_; }     // best list first

 private:
  void products(const float* matrix, const float* matrix_t, std::int64_t num_rows, std::int64_t width,
                const float* vector, float* out) const;
  void rotate(const float* query);
  void build_table();
  void compute_biases();
  float least_probed(std::int64_t num_probes) const;

  const IndexView& index_;
  const Arithmetic& arithmetic_;
  std::vector<float> normalized_;      // [dim], cosine only
  std::vector<float> rotated_;         // [dim]
  std::vector<float> table_;           // [num_subspaces, table_stride]
  std::vector<float> biases_;          // [num_lists]
  std::vector<float> probe_scores_;    // [num_lists]
  std::vector<std::uint64_t> keys_;    // lists that may be probed, in the order of probing once sorted
  std::vector<std::int64_t> probes_;
};

}  // namespace poeem
