// One query vector's way through the items: first some in float for a threshold, then bounds, then survivors in float.
#pragma once

#include <cstdint>
#include <vector>

#include "ahead.h"
#include "bound_table.h"
#include "poeem/index_view.h"
#include "poeem/kernel.h"
#include "poeem/search.h"
#include "poeem/top_k.h"
#include "poeem/scratch.h"
#include "query.h"
#include "scoring.h"
#include "shortlist.h"

namespace poeem {

// Working memory of one query vector, reused from one to the next.
class RowScan {
 public:
  // segments: the first one for its quantizer. sparse: so few of the items are wanted that bounds would only cost.
  RowScan(const std::vector<Segment>& segments, const Kernel& kernel, std::int64_t capacity, bool sparse);

  // Start anew; the plan must have been made.
  void reset();

  // Put all lists in order, not only those that were to be probed. Only where not full.
  void list_all() { plan_.choose_lists(index_.num_lists); }

  // Codes that are scanned later; clear where there are none.
  Ahead& ahead() { return ahead_; }

  // Offer the wanted items of a segment at positions [begin, end), which have this bias, to the k best.
  void scan(const Segment& segment, std::int64_t begin, std::int64_t end, float bias);

  // Offer the wanted items of all lists that are probed, block by block: where lists are short, that takes fewer steps than
  // list by list. False, and nothing done, where there are no bounds.
  bool scan_probed(const Segment& segment);

  // The same for two query vectors and whole chunks of codes without lists: they share what is loaded.
  static void scan_two(RowScan& a, RowScan& b, const Segment& segment, std::int64_t begin, std::int64_t end);

  // Whether no item of this bias can be among the best; false where that is not known.
  bool is_hopeless(float bias) const {
    if (listing_) return share_of(bias) > shortlist_.limit();
    return bounded_ && !index_.uses_norms() && bounds_.is_beyond_reach(bias, best_.threshold());
  }

  // Whether as many were found as were wanted.
  bool full() {
    score_shortlist();
    score_waiting();
    return best_.full();
  }

  // Items scored in float since `reset`: the first ones, then what passed the bounds. After `sorted`.
  std::int64_t num_scored() const { return num_scored_; }

  const QueryPlan& plan() const { return plan_; }
  QueryPlan& plan() { return plan_; }
  const ScratchVector<Candidate>& sorted() {
    score_shortlist();
    score_waiting();
    return best_.sorted();
  }

 private:
  void look_at(const Segment& segment);
  bool start_shortlist();
  std::int64_t share_of(float bias) const {
    return Shortlist::share(static_cast<double>(max_bias_) - static_cast<double>(bias), bounds_.step());
  }
  void list_rows(std::int64_t begin, std::int64_t end, float bias);
  void score_shortlist();
  bool find_max_bias();
  void scan_in_float(std::int64_t begin, std::int64_t end, float bias);
  void scan_by_bounds(std::int64_t begin, std::int64_t end, float bias);
  void take_one(std::int64_t position, float bias);
  void put(const std::uint8_t* codes, std::int64_t place, float bias, float norm) {
    places_[num_waiting_] = place;
    waiting_[num_waiting_++] = {codes, bias, norm};
    if (num_waiting_ == kMaxWaiting) score_waiting();
  }
  // A block's first list, and the best bias of its lists.
  struct BlockOfLists {
    std::int64_t number, first_list;
    float bias;
  };
  std::int64_t choose_blocks(const float* biases);
  void scan_block(const BlockOfLists& block, const float* biases);
  std::int64_t take_of_lists(std::int64_t unit, std::uint64_t mask, std::int64_t list, const float* biases);
  std::int64_t take_some(std::int64_t unit, std::uint64_t mask, float bias);
  void score_waiting();
  void score_first(std::int64_t count);
  void score_eights() { score_first(num_waiting_ / kEight * kEight); }
  void take_unit(std::int64_t unit, std::uint64_t mask, float bias);
  void take_masks(const BoundTask& task, std::int64_t begin, std::int64_t end, float bias);
  void choose_look(const BoundTask& task, std::int64_t num_passed);
  void bound(const BoundTask& task) { bound_[task.look](task, masks_); }
  void try_bounds(std::int64_t position);
  void build_bounds(std::int64_t position);
  bool aim(std::int64_t unit, std::int64_t last, float bias, BoundTask& task);
  void point(BoundTask& task) const;
  bool aim_again(std::int64_t unit, std::int64_t last, float bias);
  void fetch_wanted(const BoundTask& task) const;

  static constexpr std::int64_t kMaxUnits = 256;  // units between two looks at the threshold
  static constexpr std::int64_t kShortUnits = 8;  // so few are scanned by the task of the same list's rows before

  // Of the items of a unit, those in [begin, end) that are wanted.
  std::uint64_t wanted_items(std::int64_t unit, std::int64_t begin, std::int64_t end) const;

  const std::vector<Segment>& segments_;
  const IndexView& index_;       // for the quantizer
  const IndexView* items_;       // the segment that is scanned
  std::int64_t first_place_ = 0; // of its items (top_k.h)
  const std::uint64_t* wanted_;  // its wanted items, null = all
  BoundTwoFunction bound_two_[kNumLooks] = {};  // null: one at a time
  BoundFunction bound_[kNumLooks] = {};  // null: of kCodewords, every item is scored in float; of others, there is no such look
  SumFunction sum_ = nullptr;    // null: no shortlist
  Fetch fetch_ = Fetch::kFirstLevel;
  std::int64_t capacity_;
  std::int64_t sample_;  // items scored in float before bounds are built
  std::int64_t listed_;  // items looked at for the shortlist before that
  QueryPlan plan_;
  BoundTable bounds_;
  TopK best_;
  Shortlist shortlist_;
  bool listing_ = false;        // whether items go there
  bool bounded_ = false;
  bool tried_ = false;
  int look_ = kCodewords;       // what the next task looks at
  bool trial_ = false;          // whether that look is tried
  std::int64_t next_from_[kNumLooks] = {};  // the next look is tried where one of so many items passes this one
  std::int64_t num_seen_ = 0;
  std::int64_t num_scored_ = 0;
  std::int64_t build_at_ = 0;   // items seen when bounds are to be built anew
  float max_bias_ = 0, max_abs_bias_ = 0;  // of the lists probed
  Ahead ahead_;
  BoundTask task_{};            // the last one of scan_by_bounds
  bool aimed_ = false;          // whether it can be used again where the bias is the same
  float aimed_bias_ = 0;
  std::uint64_t masks_[kMaxUnits];
  std::int32_t units_[kMaxUnits];  // of the last task, those of which something passed
  bool passed_ = false;         // whether anything of the last task did
  ScratchVector<BlockOfLists> blocks_;
  static constexpr std::int64_t kEight = 8;  // are scored side by side, so fewer wait for more
  static constexpr std::int64_t kMaxWaiting = 64;
  std::int64_t num_waiting_ = 0;
  ItemToScore waiting_[kMaxWaiting];  // to be scored in float, of any segments and lists
  std::int64_t places_[kMaxWaiting];  // of each of them (top_k.h)
};

}  // namespace poeem
