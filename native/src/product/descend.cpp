// Codes of the least cost, one at a time. What a codeword adds to the error's square and to its product with the costly
// direction does not depend on the other codes, so both are had once for all passes.
#include "poeem/product.h"

#include <algorithm>
#include <vector>

#include "../arithmetic/arithmetic.h"
#include "../parallel.h"
#include "../tables.h"
#include "poeem/error.h"
#include "poeem/kernel.h"
#include "poeem/panels.h"

namespace poeem {
namespace {

constexpr std::int64_t kTogether = 16;        // vectors that share the loads of codewords
constexpr std::int64_t kTaskVectors = 512;
constexpr std::int64_t kThreadVectors = 64;   // that pay for starting a thread

using Index = std::size_t;

void check(const DescentRequest& request, const std::int64_t* codes) {
  if (request.num_threads < 1) throw Error(ErrorCode::kConfig, "num_threads: wanted at least 1");
  if (request.num_passes < 0) throw Error(ErrorCode::kConfig, "num_passes: wanted at least 0");
  if (request.num_codewords < 1 || request.num_codewords > 65536 || request.num_codebooks < 1 || request.width < 1)
    throw Error(ErrorCode::kShape, "codebooks: wanted at least one, of 1 to 65,536 codewords");
  for (std::int64_t i = 0; i < request.num_vectors * request.num_codebooks; ++i)
    if (codes[i] < 0 || codes[i] >= request.num_codewords)
      throw Error(ErrorCode::kShape, "codes: wanted numbers of codewords");
}

// The codebooks as tables are made of them, and the squares of all codewords.
struct Words {
  explicit Words(const DescentRequest& request)
      : turned(static_cast<Index>(request.num_codebooks * request.num_codewords * request.width)),
        squares(static_cast<Index>(request.num_codebooks * request.num_codewords)) {
    const std::int64_t book = request.num_codewords * request.width;
    for (std::int64_t m = 0; m < request.num_codebooks; ++m)
      put_in_panels(request.codebooks + m * book, request.num_codewords, request.width, request.num_codewords,
                    turned.data() + m * book);
    for (Index i = 0; i < squares.size(); ++i)
      for (std::int64_t j = 0; j < request.width; ++j) {
        const float value = request.codebooks[static_cast<std::int64_t>(i) * request.width + j];
        squares[i] += value * value;
      }
  }
  std::vector<float> turned;   // [num_codebooks, width, num_codewords]
  std::vector<float> squares;  // [num_codebooks, num_codewords]
};

// Working memory of one thread.
class Descent {
 public:
  Descent(const DescentRequest& request, const Kernel& kernel, const Words& words)
      : request_(request), kernel_(kernel), words_(words),
        table_(request.num_codebooks * request.num_codewords),
        distances_(static_cast<Index>(kTogether * table_)), products_(distances_.size()),
        costs_(static_cast<Index>(request.num_codewords)) {}

  void run(std::int64_t begin, std::int64_t end, std::int64_t* codes) {
    for (; begin < end; begin += kTogether) {
      const std::int64_t count = std::min(kTogether, end - begin);
      multiply(request_.vectors, begin, count, distances_);
      multiply(request_.along, begin, count, products_);
      for (std::int64_t i = 0; i < count; ++i) {
        float* distances = distances_.data() + i * table_;
        for (std::int64_t k = 0; k < table_; ++k)
          distances[k] = words_.squares[static_cast<Index>(k)] - 2.0F * distances[k];
        lower(begin + i, distances, products_.data() + i * table_, codes + (begin + i) * request_.num_codebooks);
      }
    }
  }

 private:
  std::int64_t dim() const { return request_.num_codebooks * request_.width; }

  // out[i][m][k] = <slice m of rows[begin + i], codeword k of m>.
  void multiply(const float* rows, std::int64_t begin, std::int64_t count, std::vector<float>& out) {
    const float* from[kTogether];
    float* to[kTogether];
    for (std::int64_t m = 0; m < request_.num_codebooks; ++m) {
      for (std::int64_t i = 0; i < count; ++i) {
        from[i] = rows + (begin + i) * dim() + m * request_.width;
        to[i] = out.data() + i * table_ + m * request_.num_codewords;
      }
      kernel_.products({words_.turned.data() + m * request_.num_codewords * request_.width, request_.width,
                        request_.num_codewords, request_.num_codewords, from, to, count});
    }
  }

  void lower(std::int64_t vector, const float* distances, const float* products, std::int64_t* codes) {
    const std::int64_t num_words = request_.num_codewords;
    const float *x = request_.vectors + vector * dim(), *a = request_.along + vector * dim();
    float missed = 0.0F;  // <error, along>
    for (std::int64_t j = 0; j < dim(); ++j) missed += x[j] * a[j];
    for (std::int64_t m = 0; m < request_.num_codebooks; ++m) missed -= products[m * num_words + codes[m]];
    bool changed = true;
    for (std::int64_t pass = 0; changed && pass < request_.num_passes; ++pass) {
      changed = false;
      for (std::int64_t m = 0; m < request_.num_codebooks; ++m) {
        const float* product = products + m * num_words;
        const float without = missed + product[codes[m]];  // as if that codeword were 0
        const std::int64_t best =
            kernel_.arithmetic->cheapest(distances + m * num_words, product, num_words, without, costs_.data());
        changed |= best != codes[m];
        codes[m] = best;
        missed = without - product[best];
      }
    }
  }

  const DescentRequest& request_;
  const Kernel& kernel_;
  const Words& words_;
  std::int64_t table_;             // num_codebooks * num_codewords
  std::vector<float> distances_;   // [kTogether, table]: |u|^2 - 2 <x, u>
  std::vector<float> products_;    // [kTogether, table]: <along, u>
  std::vector<float> costs_;       // [num_codewords]
};

}  // namespace

void descend(const DescentRequest& request, std::int64_t* codes) {
  check(request, codes);
  const Kernel& kernel = choose_kernel(request.kernel);
  if (request.num_vectors == 0) return;
  const Words words(request);
  const std::int64_t num_threads = std::min(request.num_threads, request.num_vectors / kThreadVectors + 1);
  const std::int64_t share = (request.num_vectors + num_threads - 1) / num_threads;
  const std::int64_t task_vectors = std::min(share, kTaskVectors);
  const std::int64_t num_tasks = (request.num_vectors + task_vectors - 1) / task_vectors;
  run_tasks(num_tasks, num_threads, [&](TaskCounter& tasks) {
    Descent descent(request, kernel, words);
    for (std::int64_t task = tasks.next(); task < num_tasks; task = tasks.next())
      descent.run(task * task_vectors, std::min((task + 1) * task_vectors, request.num_vectors), codes);
  });
}

}  // namespace poeem
