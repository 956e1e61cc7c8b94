// Every kernel against the scalar one, at sizes around the edges of units and blocks; meant for the sanitizers:
//   cmake -S . -B build/sanitize -DPOEEM_CORE_ONLY=ON -DPOEEM_SANITIZE=ON
//   cmake --build build/sanitize --target kernels_agree && build/sanitize/kernels_agree
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "poeem/kernel.h"
#include "poeem/nearest.h"
#include "poeem/search.h"

namespace {

using poeem::CodeWidth;
using poeem::IndexView;
using poeem::Metric;

struct Shape {
  std::int64_t num_items, num_subspaces, num_codewords, num_lists;
  Metric metric;
};

// A random index that owns its arrays, each exactly as long as it must be.
struct Index {
  Index(const Shape& shape, std::mt19937& random) {
    view.metric = shape.metric;
    view.num_items = shape.num_items;
    view.num_subspaces = shape.num_subspaces;
    view.num_codewords = shape.num_codewords;
    view.num_lists = shape.num_lists;
    view.sub_dim = 2;
    view.dim = 2 * shape.num_subspaces;
    view.width = shape.num_codewords <= 16    ? CodeWidth::kFourBit
                 : shape.num_codewords <= 256 ? CodeWidth::kByte
                                              : CodeWidth::kWord;
    codebooks = normal(view.dim * view.num_codewords, random);
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
    view.codes = codes.data();
    if (view.uses_norms()) view.norms = norms.data();
    if (view.num_lists == 0) return;
    view.centroids = centroids.data();
    view.list_norms = list_norms.data();
    view.list_offsets = offsets.data();
  }

  static std::vector<float> normal(std::int64_t count, std::mt19937& random) {
    std::normal_distribution<float> distribution;
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = distribution(random);
    return values;
  }

  IndexView view;
  std::vector<float> codebooks, centroids, list_norms, norms;
  std::vector<std::int64_t> offsets;
  std::vector<std::uint8_t> codes;
};

struct Answer {
  std::vector<std::int64_t> ids;
  std::vector<float> scores;
  bool operator==(const Answer& other) const {
    return ids == other.ids &&
           std::memcmp(scores.data(), other.scores.data(), scores.size() * sizeof(float)) == 0;
  }
};

Answer answer(const IndexView& view, const poeem::SearchRequest& request) {
  const auto size = static_cast<std::size_t>(request.num_queries * request.k);
  Answer found{std::vector<std::int64_t>(size), std::vector<float>(size)};
  poeem::search(view, request, found.ids.data(), found.scores.data());
  return found;
}

bool kernels_agree(const Index& index, std::mt19937& random) {
  constexpr std::int64_t kVectors = 4;
  const std::vector<float> queries = Index::normal(kVectors * index.view.dim, random);
  std::vector<std::uint64_t> allowed(static_cast<std::size_t>((index.view.num_items + 63) / 64));
  for (std::int64_t i = 0; i < index.view.num_items; i += 1 + static_cast<std::int64_t>(random() % 4))
    allowed[static_cast<std::size_t>(i / 64)] |= std::uint64_t{1} << (i % 64);
  for (int variant = 0; variant < 8; ++variant) {
    poeem::SearchRequest request;
    request.queries = queries.data();
    request.num_heads = variant & 1 ? kVectors : 1;
    request.num_queries = kVectors / request.num_heads;
    request.num_threads = variant & 2 ? 3 : 1;
    if (variant & 4) request.allowed = allowed.data();
    request.num_probes = index.view.num_lists > 0 ? 2 : 0;
    request.k = 7;
    request.kernel = "scalar";
    const Answer truth = answer(index.view, request);
    for (const poeem::Kernel& kernel : poeem::all_kernels()) {
      request.kernel = kernel.name;
      if (kernel.supported() && !(answer(index.view, request) == truth)) return false;
    }
  }
  return true;
}

}  // namespace

int main() {
  std::mt19937 random(1);
  int num_cases = 0;
  for (std::int64_t items : {1, 63, 64, 65, 255, 256, 257, 300, 511, 700, 1500, 4000})
    for (std::int64_t subspaces : {1, 2, 3, 8, 17})
      for (std::int64_t codewords : {16, 256, 300})
        for (std::int64_t lists : {0, 3, 9})
          for (Metric metric : {Metric::kInnerProduct, Metric::kL2, Metric::kCosine}) {
            const Index index({items, subspaces, codewords, lists, metric}, random);
            if (!kernels_agree(index, random)) {
              std::printf("differ: %ld items, %ld x %ld, %ld lists, metric %d\n",
                          static_cast<long>(items), static_cast<long>(subspaces),
                          static_cast<long>(codewords), static_cast<long>(lists),
                          static_cast<int>(metric));
              return 1;
            }
            ++num_cases;
          }
  std::printf("%d indexes: all kernels agree\n", num_cases);
  return 0;
}
