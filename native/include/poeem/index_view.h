// What the core sees of an index: plain pointers into arrays that somebody else owns (often a memory map). Never copied.
#pragma once

#include <cstdint>

namespace poeem {

struct ByteLists;  // list_bounds.h

enum class Metric { kInnerProduct, kL2, kCosine };

// Codes are stored in blocks of so many items, transposed: the codes of one subspace lie side by side, ready for four
// vector registers that share its table, and memory is read in its order, which is what hardware prefetches best.
// The last block is filled up with zeros. Blocks know nothing of lists: a list may start in the middle.
constexpr std::int64_t kBlockItems = 256;

// Items are looked at in units of so many: a mask of one machine word.
constexpr std::int64_t kUnitItems = 64;

// A panel of centroids, or of full-width codewords, lies in one piece, which is read in its order (panels.h).
constexpr std::int64_t kPanelRows = 128;

enum class CodeWidth {
  kFourBit = 4,  // two codes to a byte, low nibble first: ceil(num_subspaces / 2) columns; num_codewords <= 16
  kByte = 8,     // uint8, num_codewords <= 256
  kWord = 16     // uint16, num_codewords <= 65,536
};

// Items are sorted by list, and by id within a list. Optional arrays are null where absent.
struct IndexView {
  Metric metric = Metric::kInnerProduct;
  CodeWidth width = CodeWidth::kByte;
  std::int64_t num_items = 0;
  std::int64_t dim = 0;
  std::int64_t num_subspaces = 0;
  std::int64_t num_codewords = 0;
  std::int64_t sub_dim = 0;                    // width of a codeword
  bool full_width = false;                     // residual codes: codewords are added up, sub_dim = dim
  std::int64_t num_lists = 0;                  // 0 = no lists

  const float* rotation = nullptr;             // [dim, dim], null = identity
  const float* codebooks = nullptr;            // [num_subspaces, num_codewords, sub_dim]
  const float* centroids = nullptr;            // [num_lists, dim]
  const float* list_norms = nullptr;           // [num_lists], cosine: |v|, l2: |v|^2; null for ip
  const std::int64_t* list_offsets = nullptr;  // [num_lists + 1], from 0 to num_items
  const void* codes = nullptr;                 // [num_blocks(), columns(), kBlockItems]
  const std::uint32_t* ids32 = nullptr;        // [num_items]; at most one of ids32 and ids64,
  const std::int64_t* ids64 = nullptr;         // neither = ids are positions
  const float* norms = nullptr;                // [num_items] if uses_norms(), l2: |T(x)|^2, cosine: |T(x)|

  // The same numbers once more with the other axis last, so that a register holds neighbours; null where nobody made them.
  const float* rotation_t = nullptr;           // [dim, dim]
  const float* codebooks_t = nullptr;          // [num_subspaces], each in panels of panel_words() codewords
  const float* centroids_t = nullptr;          // in panels of kPanelRows lists

  // And once more, a byte a coordinate, to choose lists by; null where nobody made them.
  const ByteLists* byte_lists = nullptr;

  // Short codewords are read at once, one panel a codebook.
  std::int64_t panel_words() const { return full_width ? kPanelRows : num_codewords; }
  std::int64_t num_blocks() const { return (num_items + kBlockItems - 1) / kBlockItems; }
  std::int64_t columns() const {
    return width == CodeWidth::kFourBit ? (num_subspaces + 1) / 2 : num_subspaces;
  }
  std::int64_t block_bytes() const {
    return columns() * kBlockItems * (width == CodeWidth::kWord ? 2 : 1);
  }
  const std::uint8_t* block(std::int64_t number) const {
    return static_cast<const std::uint8_t*>(codes) + number * block_bytes();
  }

  // Where the codes of an item begin, in column 0; the next column is kBlockItems codes further.
  const std::uint8_t* codes_of(std::int64_t position) const {
    return block(position / kBlockItems) + position % kBlockItems * (width == CodeWidth::kWord ? 2 : 1);
  }

  // The code of an item in subspace m.
  std::int64_t code_at(std::int64_t position, std::int64_t m) const {
    const std::uint8_t* from = block(position / kBlockItems);
    const std::int64_t item = position % kBlockItems;
    switch (width) {
      case CodeWidth::kFourBit: return (from[m / 2 * kBlockItems + item] >> (m % 2 * 4)) & 15;
      case CodeWidth::kByte: return from[m * kBlockItems + item];
      default:
        return reinterpret_cast<const std::uint16_t*>(from)[m * kBlockItems + item];
    }
  }

  std::int64_t id_at(std::int64_t position) const {
    if (ids32 != nullptr) return ids32[position];
    return ids64 != nullptr ? ids64[position] : position;
  }

  // l2 of product codes without lists has distances in its table, and needs no norm.
  bool has_distance_table() const { return metric == Metric::kL2 && num_lists == 0 && !full_width; }
  bool uses_norms() const { return metric != Metric::kInnerProduct && !has_distance_table(); }
};

}  // namespace poeem
