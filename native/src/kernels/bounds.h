// The fast scan: 8-bit shortfalls, lower bounds of how far a codeword's entry lies below its subspace's best, in steps. Their
// sum bounds from below how far an item falls short of the best score there could be; an item whose sum is within a
// limit passes, and is scored in float (row_scan.cpp). So a scan need only never lose anything.
//
// 8-bit codes are looked at by all bits or by the lower ones only: codes c and c + 128 are a pair, c, c + 64, c + 128 and
// c + 192 a quad. A table of pairs or quads has the least shortfall of each, which bounds all of its codewords: a half or a
// quarter of the entries, as much less work, and where near codewords have such numbers (quads.py) little more passes.
//
// Sums saturate at 255 over each `group_columns` columns, which makes them an addition of bytes (and bounds them still),
// and are added up over the groups in 16 bits.
#pragma once

#include <cstdint>

namespace poeem {

// No sum may leave 16 bits.
constexpr std::int64_t kMaxBoundSubspaces = 65535 / 255;

// Where codes that come next are fetched to, so that they need not be waited for.
enum class Fetch : int { kFirstLevel, kSecondLevel, kNowhere };

// What pays on this machine: for codes of lists, which are short, or for all codes, one after the other (dispatch.cpp).
Fetch best_fetch(bool lists);

struct BoundTask {
  const std::uint8_t* codes;   // [num_blocks, num_columns, 256]
  std::int64_t begin, end;     // units of 64 items, four to a block
  std::int64_t last;           // units up to here come next, so that their codes may be fetched; below end: none
  std::int64_t num_columns;
  std::int64_t group_columns;  // >= 1
  const std::uint8_t* table;   // 8-bit codes: [num_columns, num_entries(look)]; 4-bit: [2 * num_columns, 16]
  std::uint16_t limit;         // without norms: an item passes if its sum is <= this

  // With norms: it passes if offset - scale * sum >= factor * norm + shift, or if its norm is 0.
  const float* norms;          // [end * 64] or null
  float scale, offset, factor, shift;

  int look;                    // kCodewords, kPairs or kQuads: what the table's entries are of
  Fetch fetch;                 // not every kernel asks
};

// Whether sums can stay in bytes up to the end.
static inline bool one_group(const BoundTask& task) {
  return task.num_columns <= task.group_columns && task.norms == nullptr;
}

// Not std::min: nothing of the standard library may be compiled with a kernel's flags and linked into another file.
static inline std::int64_t smaller_of(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// A limit of 16 bits as one of bytes.
static inline char byte_limit(const BoundTask& task) {
  return static_cast<char>(smaller_of(task.limit, 255));
}

constexpr std::int64_t kUnitsOfBlock = 4;
constexpr std::int64_t kColumnBytes = 256;

// What of an 8-bit code is looked at; the later, the faster and the less sharp.
enum Look : int { kCodewords, kPairs, kQuads, kNumLooks };
constexpr std::int64_t num_entries(int look) { return std::int64_t{256} >> look; }

// The codes of a unit in column 0; the next column is kColumnBytes further.
static inline const std::uint8_t* unit_codes(const BoundTask& task, std::int64_t unit) {
  return task.codes + unit / kUnitsOfBlock * task.num_columns * kColumnBytes +
         unit % kUnitsOfBlock * 64;
}

// How far ahead of a block of codes to fetch: what hardware fetches by itself ends with each page. Not beyond those that come
// next, which of lists need not be near.
static inline std::int64_t fetch_distance(const BoundTask& task, const std::uint8_t* codes) {
  constexpr std::int64_t kMost = 8192;
  const std::int64_t left = unit_codes(task, task.last) - codes - task.num_columns * kColumnBytes;
  return left < 0 ? 0 : smaller_of(left, kMost);
}

}  // namespace poeem
