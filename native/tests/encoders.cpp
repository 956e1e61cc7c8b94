// What codes are found by, each kernel against the scalar one or plain loops.
#include "encoders.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "../src/tables.h"
#include "numbers.h"
#include "poeem/kernel.h"
#include "poeem/nearest.h"
#include "poeem/product.h"
#include "poeem/residual.h"

namespace {

// From -most to most.
std::vector<float> integers(std::int64_t count, unsigned most, std::mt19937& random) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(random() % (2 * most + 1)) - static_cast<float>(most);
  return values;
}

// Small integers, whose sums are exact with and without fused multiply-add: ties too must go to the same center.
bool nearest_agrees(std::int64_t points, std::int64_t width, std::int64_t centers, std::mt19937& random) {
  constexpr std::int64_t kGroups = 2;
  const std::vector<float> x = integers(kGroups * points * width, 4, random);
  const std::vector<float> c = integers(kGroups * centers * width, 4, random);
  poeem::NearestRequest request;
  request.points = x.data();
  request.group_stride = points * width;
  request.point_stride = width;
  request.centers = c.data();
  request.num_groups = kGroups;
  request.num_points = points;
  request.width = width;
  request.num_centers = centers;
  request.kernel = "scalar";
  std::vector<std::int64_t> truth(static_cast<std::size_t>(kGroups * points)), found(truth);
  poeem::nearest(request, truth.data());
  for (const poeem::Kernel& kernel : poeem::all_kernels()) {
    if (!kernel.supported()) continue;
    request.kernel = kernel.name;
    poeem::nearest(request, found.data());
    if (found != truth) return false;
  }
  return true;
}

// Small integers again, and beams long enough for partial codes that differ far back.
bool residual_agrees(std::int64_t vectors, std::int64_t codewords, std::int64_t beam, bool costly, std::mt19937& random) {
  constexpr std::int64_t kDim = 3, kCodebooks = 12;
  const std::vector<float> x = integers(vectors * kDim, 8, random);
  const std::vector<float> u = integers(kCodebooks * codewords * kDim, 2, random);
  const std::vector<float> along = integers(vectors * kDim, 2, random);
  poeem::ResidualRequest request;
  request.along = costly ? along.data() : nullptr;
  request.vectors = x.data();
  request.codebooks = u.data();
  request.num_vectors = vectors;
  request.dim = kDim;
  request.num_codebooks = kCodebooks;
  request.num_codewords = codewords;
  request.beam = beam;
  request.kernel = "scalar";
  std::vector<std::int64_t> truth(static_cast<std::size_t>(vectors * kCodebooks)), found(truth);
  poeem::encode_residual(request, truth.data());
  for (const poeem::Kernel& kernel : poeem::all_kernels()) {
    if (!kernel.supported()) continue;
    request.kernel = kernel.name;
    request.num_threads = 3;
    poeem::encode_residual(request, found.data());
    if (found != truth) return false;
  }
  return true;
}

// Product codes changed one at a time.
bool descents_agree(std::int64_t vectors, std::int64_t codewords, std::mt19937& random) {
  constexpr std::int64_t kCodebooks = 5, kWidth = 3;
  const std::vector<float> x = integers(vectors * kCodebooks * kWidth, 8, random);
  const std::vector<float> along = integers(vectors * kCodebooks * kWidth, 2, random);
  const std::vector<float> words = integers(kCodebooks * codewords * kWidth, 4, random);
  poeem::DescentRequest request;
  request.vectors = x.data();
  request.along = along.data();
  request.codebooks = words.data();
  request.num_vectors = vectors;
  request.num_codebooks = kCodebooks;
  request.num_codewords = codewords;
  request.width = kWidth;
  request.num_passes = 20;
  request.kernel = "scalar";
  std::vector<std::int64_t> truth(static_cast<std::size_t>(vectors * kCodebooks));
  for (std::int64_t& code : truth) code = static_cast<std::int64_t>(random()) % codewords;
  const std::vector<std::int64_t> start = truth;
  poeem::descend(request, truth.data());
  for (const poeem::Kernel& kernel : poeem::all_kernels()) {
    if (!kernel.supported()) continue;
    request.kernel = kernel.name;
    request.num_threads = 3;
    std::vector<std::int64_t> found = start;
    poeem::descend(request, found.data());
    if (found != truth) return false;
  }
  return true;
}

// To the bit, whatever the numbers: sums in the order of their terms.
bool products_agree(std::int64_t vectors, std::int64_t width, std::int64_t columns, std::int64_t panel,
                    std::mt19937& random) {
  const std::vector<float> x = normal(vectors * width, random);
  const std::vector<float> matrix_t = normal(width * columns, random);
  std::vector<float> truth(static_cast<std::size_t>(vectors * columns)), found(truth);
  std::vector<const float*> rows;
  std::vector<float*> out;
  for (std::int64_t v = 0; v < vectors; ++v) {
    rows.push_back(x.data() + v * width);
    out.push_back(found.data() + v * columns);
    for (std::int64_t c = 0; c < columns; ++c) {
      volatile float sum = 0.0F;  // each product and each sum is rounded by itself
      for (std::int64_t j = 0; j < width; ++j) {
        const std::int64_t first = c / panel * panel, count = std::min(panel, columns - first);
        const std::int64_t place = first * width + j * count + c - first;
        volatile float product = rows.back()[j] * matrix_t[static_cast<std::size_t>(place)];
        sum = sum + product;
      }
      truth[static_cast<std::size_t>(v * columns + c)] = sum;
    }
  }
  for (const poeem::Kernel& kernel : poeem::all_kernels()) {
    if (!kernel.supported()) continue;
    std::fill(found.begin(), found.end(), 0.0F);
    kernel.products({matrix_t.data(), width, columns, panel, rows.data(), out.data(), vectors});
    if (std::memcmp(found.data(), truth.data(), found.size() * sizeof(float)) != 0) return false;
  }
  return true;
}

}  // namespace

bool encoders_agree(std::mt19937& random) {
  for (std::int64_t points : {1, 15, 16, 17, 64, 65, 600})
    for (std::int64_t width : {1, 2, 7, 16})
      for (std::int64_t centers : {1, 3, 4, 5, 256})
        if (!nearest_agrees(points, width, centers, random)) {
          std::printf("differ: nearest of %ld points, width %ld, %ld centers\n",
                      static_cast<long>(points), static_cast<long>(width),
                      static_cast<long>(centers));
          return false;
        }
  for (std::int64_t vectors : {1, 17, 700})
    for (std::int64_t codewords : {1, 5, 32, 70})
      if (!descents_agree(vectors, codewords, random)) {
        std::printf("differ: product codes of least cost of %ld vectors, %ld codewords\n", static_cast<long>(vectors),
                    static_cast<long>(codewords));
        return false;
      }
  for (std::int64_t vectors : {1, 5, 300})
    for (std::int64_t codewords : {1, 5, 16, 70})
      for (std::int64_t beam : {1, 2, 7, 80})
        if (!residual_agrees(vectors, codewords, beam, false, random) ||
            !residual_agrees(vectors, codewords, beam, true, random)) {
          std::printf("differ: residual codes of %ld vectors, %ld codewords, beam %ld\n",
                      static_cast<long>(vectors), static_cast<long>(codewords),
                      static_cast<long>(beam));
          return false;
        }
  for (std::int64_t vectors : {1, 5, 6, 7, 13})
    for (std::int64_t width : {1, 2, 7, 16})
      for (std::int64_t columns : {1, 4, 15, 16, 63, 64, 131, 300})
        if (!products_agree(vectors, width, columns, columns, random) ||
            !products_agree(vectors, width, columns, 128, random)) {
          std::printf("differ: products of %ld vectors, width %ld, %ld columns\n",
                      static_cast<long>(vectors), static_cast<long>(width),
                      static_cast<long>(columns));
          return false;
        }
  return true;
}
