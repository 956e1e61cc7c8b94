// What the core sees of an index: plain pointers into arrays that somebody else owns (often a memory map). Never copied.
#pragma once

#include <cstdint>

namespace poeem {

enum class Metric { kInnerProduct, kL2, kCosine };

enum class CodeWidth {
  kFourBit = 4,  // two codes to a byte, low nibble first; rows of ceil(num_subspaces / 2) bytes; num_codewords <= 16
  kByte = 8,     // uint8, num_codewords <= 256
  kWord = 16     // uint16, num_codewords <= 65,536; every code must be < num_codewords
};

// Items are sorted by list, and by id within a list. Optional arrays are null where absent.
struct IndexView {
  Metric metric = Metric::kInnerProduct;
  CodeWidth width = CodeWidth::kByte;
  std::int64_t num_items = 0;
  std::int64_t dim = 0;
  std::int64_t num_subspaces = 0;
  std::int64_t num_codewords = 0;
  std::int64_t sub_dim = 0;
  std::int64_t num_lists = 0;                  // 0 = no lists

  const float* rotation = nullptr;             // [dim, dim], null = identity
  const float* codebooks = nullptr;            // [num_subspaces, num_codewords, sub_dim]
  const float* centroids = nullptr;            // [num_lists, dim]
  const float* list_norms = nullptr;           // [num_lists], cosine: |v|, l2: |v|^2; null for ip
  const std::int64_t* list_offsets = nullptr;  // [num_lists + 1], from 0 to num_items
  const void* codes = nullptr;                 // [num_items, row_bytes()]
  const std::uint32_t* ids32 = nullptr;        // [num_items]; at most one of ids32 and ids64,
  const std::int64_t* ids64 = nullptr;         // neither = ids are positions
  const float* norms = nullptr;                // [num_items], l2 with lists: |T(x)|^2, cosine: |T(x)|

  std::int64_t row_bytes() const {
    switch (width) {
      case CodeWidth::kFourBit: return (num_subspaces + 1) / 2;
      case CodeWidth::kByte: return num_subspaces;
      default: return 2 * num_subspaces;
    }
  }

  std::int64_t id_at(std::int64_t position) const {
    if (ids32 != nullptr) return ids32[position];
    return ids64 != nullptr ? ids64[position] : position;
  }

  // Only these two metrics look at an item's norm; l2 without lists folds it into the table.
  bool uses_norms() const {
    return metric == Metric::kCosine || (metric == Metric::kL2 && num_lists > 0);
  }
};

}  // namespace poeem
