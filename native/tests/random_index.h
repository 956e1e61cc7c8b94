// Random indexes for the native tests, and what a search of one returns.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "numbers.h"
#include "poeem/kernel.h"
#include "poeem/list_bounds.h"
#include "poeem/panels.h"
#include "poeem/search.h"

using poeem::CodeWidth;
using poeem::IndexView;
using poeem::Metric;

struct Shape {
  std::int64_t num_items, num_subspaces, num_codewords, num_lists;
  Metric metric;
  bool full_width;
};

// A random index that owns its arrays, each exactly as long as it must be.
struct Index {
  Index(const Shape& shape, std::mt19937& random) {
    view.metric = shape.metric;
    view.num_items = shape.num_items;
    view.num_subspaces = shape.num_subspaces;
    view.num_codewords = shape.num_codewords;
    view.num_lists = shape.num_lists;
    view.full_width = shape.full_width;
    view.sub_dim = shape.full_width ? 5 : 2;
    view.dim = shape.full_width ? 5 : 2 * shape.num_subspaces;
    view.width = shape.num_codewords <= 16    ? CodeWidth::kFourBit
                 : shape.num_codewords <= 256 ? CodeWidth::kByte
                                              : CodeWidth::kWord;
    codebooks = normal(view.num_subspaces * view.num_codewords * view.sub_dim, random);
    codebooks_t = normal(static_cast<std::int64_t>(codebooks.size()), random);
    put_codebooks_in_panels();
    centroids = normal(view.dim * view.num_lists, random);
    list_norms = normal(view.num_lists, random);
    norms = normal(view.num_items, random);
    for (float& norm : norms) norm = std::abs(norm) < 0.1F ? 0.0F : std::abs(norm);
    for (std::int64_t l = 0; view.num_lists > 0 && l <= view.num_lists; ++l)
      offsets.push_back(view.num_items * l / view.num_lists);
    codes.resize(static_cast<std::size_t>(view.num_blocks() * view.block_bytes()));
    for (std::uint8_t& byte : codes) byte = static_cast<std::uint8_t>(random());
    if (view.width == CodeWidth::kWord)  // below 300: the upper byte 0
      for (std::size_t i = 1; i < codes.size(); i += 2) codes[i] = 0;
    view.codebooks = codebooks.data();
    view.codebooks_t = codebooks_t.data();
    view.codes = codes.data();
    if (view.uses_norms()) view.norms = norms.data();
    if (view.num_lists == 0) return;
    view.centroids = centroids.data();
    view.list_norms = list_norms.data();
    view.list_offsets = offsets.data();
    lists.pack(centroids.data(), view.num_lists, view.dim);
    view.byte_lists = &lists.lists();
  }

  // Bring the engine's copy of the codebooks to what they are now.
  void put_codebooks_in_panels() {
    const std::int64_t book = view.num_codewords * view.sub_dim;
    for (std::int64_t m = 0; m < view.num_subspaces; ++m)
      poeem::put_in_panels(codebooks.data() + m * book, view.num_codewords, view.sub_dim, view.panel_words(),
                           codebooks_t.data() + m * book);
  }

  IndexView view;
  std::vector<float> codebooks, codebooks_t, centroids, list_norms, norms;
  std::vector<std::int64_t> offsets;
  std::vector<std::uint8_t> codes;
  poeem::PackedLists lists;
};

struct Answer {
  std::vector<std::int64_t> ids;
  std::vector<float> scores;
  bool operator==(const Answer& other) const {
    return ids == other.ids &&
           std::memcmp(scores.data(), other.scores.data(), scores.size() * sizeof(float)) == 0;
  }
};

inline Answer answer(const IndexView& view, const poeem::SearchRequest& request) {
  const auto size = static_cast<std::size_t>(request.num_queries * request.k);
  Answer found{std::vector<std::int64_t>(size), std::vector<float>(size)};
  poeem::search(view, request, found.ids.data(), found.scores.data());
  return found;
}

// Whether each kernel of this machine answers a request as the scalar one does.
inline bool kernels_answer_alike(const IndexView& view, poeem::SearchRequest request) {
  request.kernel = "scalar";
  // The truth sums row by row; what has its rows side by side takes the kernel's own products.
  IndexView rows = view;
  rows.codebooks_t = nullptr;
  const Answer truth = answer(rows, request);
  for (const poeem::Kernel& kernel : poeem::all_kernels()) {
    request.kernel = kernel.name;
    if (kernel.supported() && !(answer(view, request) == truth)) return false;
  }
  return true;
}
