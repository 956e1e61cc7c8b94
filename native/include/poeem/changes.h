// What a change does to a live index: ids are looked up, their items marked dead, new rows put in storage order.
#pragma once

#include <cstdint>
#include <vector>

#include "poeem/index_view.h"

namespace poeem {

// Where ids stand in an index.
struct Lookup {
  std::int64_t num_items = 0;
  const std::uint32_t* ids32 = nullptr;    // [num_items], rising; at most one of ids32 and ids64,
  const std::int64_t* ids64 = nullptr;     // neither = ids are positions
  const std::int32_t* order32 = nullptr;   // [num_items], the position of each of the ids; at most one of the two,
  const std::int64_t* order64 = nullptr;   // neither = they rise with the positions

  // The position of an id, -1 where there is none; no value of the arrays can lead beyond num_items.
  std::int64_t find(std::int64_t id) const;
};

inline bool is_set(const std::uint64_t* bits, std::int64_t position) {
  return bits == nullptr || ((bits[position / 64] >> (position % 64)) & 1) != 0;
}

// Positions of ids that are alive (a bit per item, null = all are), -1 elsewhere.
void find_alive(const Lookup& lookup, const std::uint64_t* alive, const std::int64_t* ids, std::int64_t count,
                std::int64_t* positions);

// Rows to be joined. Either an index's, packed and in storage order, or plain ones in any order (`view` null).
struct RowSource {
  const IndexView* view = nullptr;         // for items, codes, list_offsets, ids64 and norms
  const std::uint64_t* alive = nullptr;    // a bit per item of the view, null = all

  std::int64_t num_rows = 0;               // the plain ones
  const std::int64_t* ids = nullptr;       // [num_rows]
  const void* codes = nullptr;             // uint8, or uint16 for 16-bit codes: [num_rows, num_subspaces]
  const std::int32_t* lists = nullptr;     // [num_rows], null without lists; each from 0 to num_lists - 1
  const float* norms = nullptr;            // [num_rows], null where none are wanted
};

// One row's place among all rows of all sources, and what it is sorted by.
struct JoinedRow {
  std::int64_t list, id, source, row;
};

// The rows of all sources that are alive, in storage order: by list, then by id.
std::vector<JoinedRow> storage_order(const std::vector<RowSource>& sources);

// Where the rows are written; all arrays but `codes` may be null if nobody wants them.
struct JoinedTarget {
  std::int64_t* ids = nullptr;             // [rows]
  void* codes = nullptr;                   // zeros, [blocks, columns, kBlockItems]
  std::int64_t* list_offsets = nullptr;    // [num_lists + 1]
  float* norms = nullptr;                  // [rows]
};

// like: for the shape of codes and the number of lists.
void write_rows(const std::vector<RowSource>& sources, const std::vector<JoinedRow>& rows, const IndexView& like,
                const JoinedTarget& target);

}  // namespace poeem
