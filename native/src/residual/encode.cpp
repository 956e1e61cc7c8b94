// A beam search over residual codes. Two things keep it cheap: the products of a vector with all codewords are had once for
// all of its partial codes, and a threshold lets only a few candidates of each codebook through.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "../parallel.h"
#include "poeem/error.h"
#include "poeem/kernel.h"
#include "poeem/residual.h"
#include "tile.h"

namespace poeem {
namespace {

constexpr std::int64_t kMaxBeam = 256;
constexpr std::int64_t kTaskVectors = 128;        // least vectors of a task
constexpr std::int64_t kMostVectors = 2048;       // and most: they share the Gram rows in the cache
constexpr std::int64_t kRowsTogether = 96;        // rows multiplied before their products are looked through
constexpr std::int64_t kGramBytes = 64 << 20;     // of inner products between codewords
constexpr std::int64_t kMaxReach = 8;             // codebooks back that these go
constexpr std::int64_t kThreadProducts = 1 << 22; // multiplications that pay for starting a thread
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLowest = std::numeric_limits<float>::lowest();

using Index = std::size_t;

// So many rows, up to a whole number of a tile's.
std::int64_t whole_rows(std::int64_t num_rows, const ResidualTile& tile) {
  return (num_rows + tile.num_rows - 1) / tile.num_rows * tile.num_rows;
}

// All codebooks as the tiles want them, and inner products between codewords of near codebooks.
class Codebooks {
 public:
  Codebooks(const ResidualRequest& request, const ResidualTile& tile)
      : request_(request), tile_(tile),
        num_blocks_((request.num_codewords + tile.block - 1) / tile.block),
        width_(num_blocks_ * tile.block), reach_(wanted_reach()),
        words_(static_cast<Index>(request.num_codebooks * width_ * request.dim)),
        offsets_(static_cast<Index>(request.num_codebooks * width_),
                 -kInfinity),
        grams_(static_cast<Index>(request.num_codebooks * reach_)) {
    for (std::int64_t m = 0; m < request.num_codebooks; ++m) pack(m);
    if (reach_ > 0) multiply();
  }

  std::int64_t num_blocks() const { return num_blocks_; }
  std::int64_t width() const { return width_; }  // codewords, filled up to whole blocks
  std::int64_t reach() const { return reach_; }

  PackedWords packed(std::int64_t m) const {
    return {words_.data() + m * width_ * request_.dim, offsets_.data() + m * width_, request_.dim,
            num_blocks_};
  }
  const float* word(std::int64_t m, std::int64_t k) const {
    return request_.codebooks + (m * request_.num_codewords + k) * request_.dim;
  }
  // <word(earlier, k), words of codebook m>, [width()]. m - reach() <= earlier < m.
  const float* gram(std::int64_t m, std::int64_t earlier, std::int64_t k) const {
    return grams_[static_cast<Index>(m * reach_ + m - earlier - 1)].data() + k * width_;
  }

 private:
  // As far back as the products between codewords cost less than those of every partial code by itself.
  std::int64_t wanted_reach() const {
    const std::int64_t all = request_.num_codebooks;
    const std::int64_t gram_bytes = request_.num_codewords * width_ * 4;
    for (std::int64_t reach = std::min(kMaxReach, all - 1); reach > 0; --reach) {
      const std::int64_t pairs = reach * (2 * all - reach - 1) / 2;
      if (pairs * gram_bytes > kGramBytes) continue;
      const double spared = static_cast<double>(request_.num_vectors) *
                            static_cast<double>((request_.beam - 1) * (all - 1));
      if (static_cast<double>(pairs * request_.num_codewords) < spared) return reach;
    }
    return 0;
  }

  void pack(std::int64_t m) {
    const std::int64_t block = tile_.block, dim = request_.dim;
    for (std::int64_t k = 0; k < request_.num_codewords; ++k) {
      const float* from = word(m, k);
      float* to = words_.data() + m * width_ * dim + k / block * block * dim + k % block;
      float square = 0.0F;
      for (std::int64_t j = 0; j < dim; ++j) {
        to[j * block] = from[j];
        square += from[j] * from[j];
      }
      offsets_[static_cast<Index>(m * width_ + k)] = -0.5F * square;
    }
  }

  void multiply() {
    const std::int64_t all = request_.num_codebooks, num_tasks = all * reach_;
    const std::int64_t rows = whole_rows(request_.num_codewords, tile_);
    run_tasks(num_tasks, request_.num_threads, [&](TaskCounter& tasks) {
      std::vector<float> earlier(static_cast<Index>(rows * request_.dim));
      for (std::int64_t task = tasks.next(); task < num_tasks; task = tasks.next()) {
        const std::int64_t m = task / reach_, from = m - task % reach_ - 1;
        if (from < 0) continue;
        const float* words_from = word(from, 0);
        std::copy(words_from, words_from + request_.num_codewords * request_.dim, earlier.begin());
        std::vector<float>& gram = grams_[static_cast<Index>(task)];
        gram.resize(static_cast<Index>(rows * width_));
        PackedWords words = packed(m);
        words.offsets = nullptr;
        tile_.products(earlier.data(), rows, words, gram.data());
      }
    });
  }

  const ResidualRequest& request_;
  const ResidualTile& tile_;
  std::int64_t num_blocks_, width_, reach_;
  std::vector<float> words_;    // [num_codebooks, num_blocks, dim, block]
  std::vector<float> offsets_;  // [num_codebooks, width]
  std::vector<std::vector<float>> grams_;  // [num_codebooks, reach], each [num_codewords, width]
};

// The partial codes of one vector, best first. What all of them have in common is taken off the vector.
struct Partials {
  std::vector<float> rest;           // [dim]: the vector less its common codewords
  std::int64_t num_common = 0;       // leading codebooks in which all agree
  std::int64_t count = 0;
  std::vector<float> scores;         // [beam]: (|x|^2 - |error|^2) / 2, and the same of <x, along>^2
  std::vector<float> along;          // [beam]: <error, along>
  std::vector<std::uint16_t> codes;  // [beam, num_codebooks]
};

struct Found {
  float score;
  std::int32_t place;  // partial code * width + codeword
};

struct Extent {
  float low, high;
};

// Of the numbers that are some: NaN and the -inf of places without codewords are none. In lanes of their own, so that a
// compiler can keep them in a register. The length of values is a multiple of 8.
Extent extent_of(const std::vector<float>& values) {
  constexpr Index kLanes = 8;
  float lows[kLanes], highs[kLanes];
  for (Index i = 0; i < kLanes; ++i) lows[i] = kInfinity, highs[i] = kLowest;
  for (Index from = 0; from < values.size(); from += kLanes) {
    for (Index i = 0; i < kLanes; ++i) {
      const float value = values[from + i];
      const float real = value >= kLowest ? value : kInfinity;
      lows[i] = real < lows[i] ? real : lows[i];
      highs[i] = value > highs[i] ? value : highs[i];
    }
  }
  return {*std::min_element(lows, lows + kLanes), *std::max_element(highs, highs + kLanes)};
}

float highest_of(const std::vector<float>& values) {
  constexpr Index kLanes = 8;
  float highs[kLanes];
  for (Index i = 0; i < kLanes; ++i) highs[i] = kLowest;
  for (Index from = 0; from < values.size(); from += kLanes)
    for (Index i = 0; i < kLanes; ++i)
      highs[i] = values[from + i] > highs[i] ? values[from + i] : highs[i];
  return *std::max_element(highs, highs + kLanes);
}

// Encodes vectors; each thread has its own.
class Encoder {
 public:
  Encoder(const ResidualRequest& request, const ResidualTile& tile, const Codebooks& books,
          std::int64_t num_vectors)
      : request_(request), tile_(tile), books_(books), beam_(request.beam),
        partials_(static_cast<Index>(num_vectors)),
        max_rows_(whole_rows(std::max(kRowsTogether, beam_), tile)),
        rows_(static_cast<Index>(max_rows_ * request.dim)),
        products_(static_cast<Index>(max_rows_ * books.width())),
        along_rows_(request.along == nullptr ? 0 : rows_.size()),
        along_products_(request.along == nullptr ? 0 : products_.size()),
        values_(static_cast<Index>(beam_ * books.width())), places_(values_.size()),
        maxima_(static_cast<Index>(tile.block)) {
    for (Partials& partials : partials_) {
      partials.rest.resize(static_cast<Index>(request.dim));
      partials.scores.resize(static_cast<Index>(beam_));
      partials.along.resize(static_cast<Index>(beam_));
      partials.codes.resize(static_cast<Index>(beam_ * request.num_codebooks));
    }
    new_codes_.resize(static_cast<Index>(beam_ * request.num_codebooks));
    new_along_.resize(static_cast<Index>(beam_));
    best_.resize(static_cast<Index>(beam_));
  }

  void encode(std::int64_t begin, std::int64_t end, std::int64_t* codes) {
    const std::int64_t count = end - begin, all = request_.num_codebooks;
    first_vector_ = begin;
    for (std::int64_t i = 0; i < count; ++i) {
      Partials& partials = partials_[static_cast<Index>(i)];
      const float* vector = request_.vectors + (begin + i) * request_.dim;
      std::copy(vector, vector + request_.dim, partials.rest.begin());
      partials.num_common = 0;
      partials.count = 1;
      partials.scores[0] = 0.0F;
      if (request_.along == nullptr) continue;
      const float* along = along_of(i);
      partials.along[0] = 0.0F;
      for (std::int64_t j = 0; j < request_.dim; ++j) partials.along[0] += vector[j] * along[j];
    }
    for (std::int64_t m = 0; m < all; ++m)
      for (std::int64_t i = 0; i < count;) i = extend_some(m, i, count);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint16_t* best = partials_[static_cast<Index>(i)].codes.data();
      std::copy(best, best + all, codes + (begin + i) * all);
    }
  }

 private:
  const float* along_of(std::int64_t i) const { return request_.along + (first_vector_ + i) * request_.dim; }

  const std::uint16_t* codes_of(const Partials& partials, std::int64_t b) const {
    return partials.codes.data() + b * request_.num_codebooks;
  }

  // One row serves all partial codes of a vector as long as what they do not share is near enough for Gram rows.
  bool shares_a_row(const Partials& partials, std::int64_t m) const {
    return partials.count == 1 || m - partials.num_common <= books_.reach();
  }

  // Take as many vectors from `first` on as rows fit, by one codebook further; return the next.
  std::int64_t extend_some(std::int64_t m, std::int64_t first, std::int64_t end) {
    std::int64_t num_rows = 0, last = first;
    for (; last < end; ++last) {
      const Partials& partials = partials_[static_cast<Index>(last)];
      const std::int64_t wanted = shares_a_row(partials, m) ? 1 : partials.count;
      if (num_rows + wanted > max_rows_) break;
      for (std::int64_t b = 0; b < wanted; ++b) {
        float* row = rows_.data() + num_rows++ * request_.dim;
        std::copy(partials.rest.begin(), partials.rest.end(), row);
        if (wanted > 1) subtract(codes_of(partials, b), partials.num_common, m, row);
      }
    }
    const std::int64_t whole = whole_rows(num_rows, tile_);
    std::fill(rows_.data() + num_rows * request_.dim, rows_.data() + whole * request_.dim, 0.0F);
    tile_.products(rows_.data(), whole, books_.packed(m), products_.data());
    if (request_.along != nullptr) multiply_along(m, first, last);
    const float* products = products_.data();
    for (std::int64_t i = first; i < last; ++i) {
      Partials& partials = partials_[static_cast<Index>(i)];
      const bool shared = shares_a_row(partials, m);
      const std::int64_t used = shared ? 1 : partials.count;
      const float* along = request_.along == nullptr ? nullptr : along_products_.data() + (i - first) * books_.width();
      extend(m, partials, products, along, shared);
      products += used * books_.width();
    }
    return last;
  }

  // Each vector has at least one row, so there is room.
  void multiply_along(std::int64_t m, std::int64_t first, std::int64_t last) {
    const std::int64_t used = last - first, whole = whole_rows(used, tile_), dim = request_.dim;
    std::copy(along_of(first), along_of(first) + used * dim, along_rows_.begin());
    std::fill(along_rows_.data() + used * dim, along_rows_.data() + whole * dim, 0.0F);
    PackedWords words = books_.packed(m);
    words.offsets = nullptr;
    tile_.products(along_rows_.data(), whole, words, along_products_.data());
  }

  void subtract(const std::uint16_t* codes, std::int64_t begin, std::int64_t end,
                float* __restrict row) const {
    for (std::int64_t m = begin; m < end; ++m) {
      const float* __restrict word = books_.word(m, codes[m]);
      for (std::int64_t j = 0; j < request_.dim; ++j) row[j] -= word[j];
    }
  }

  void extend(std::int64_t m, Partials& partials, const float* products, const float* along, bool shared) {
    const std::int64_t width = books_.width();
    std::fill(maxima_.begin(), maxima_.end(), -kInfinity);
    for (std::int64_t b = 0; b < partials.count; ++b) {
      minus_.clear();
      if (shared)
        for (std::int64_t from = partials.num_common; from < m; ++from)
          minus_.push_back(books_.gram(m, from, codes_of(partials, b)[from]));
      tile_.extend(shared ? products : products + b * width, minus_.data(),
                   static_cast<std::int64_t>(minus_.size()), {along, partials.along[static_cast<Index>(b)]},
                   partials.scores[static_cast<Index>(b)],
                   books_.num_blocks(), b, values_.data() + b * width, maxima_.data());
    }
    choose(partials.count * width, partials.count * request_.num_codewords);
    if (along != nullptr) take_along(partials, along);
    take(m, partials);
  }

  void take_along(Partials& partials, const float* along) {
    for (Index b = 0; b < static_cast<Index>(num_best_); ++b)
      new_along_[b] = partials.along[static_cast<Index>(best_[b].place / books_.width())] -
                      along[best_[b].place % books_.width()];
    partials.along.swap(new_along_);
  }

  // A score that at least `beam` candidates reach, and not many more.
  float threshold(std::int64_t count, std::int64_t num_candidates) {
    if (num_candidates <= beam_) return kLowest;
    // Each maximum is a candidate of its own, so the `beam`-th highest of them will do; bisection comes near it.
    if (beam_ == 1) return highest_of(maxima_);
    auto [low, high] = extent_of(maxima_);
    if (num_reaching(low) < beam_) return exact_threshold(count);
    for (int step = 0; step < 7; ++step) {
      const float middle = 0.5F * low + 0.5F * high;
      (num_reaching(middle) < beam_ ? high : low) = middle;
    }
    return low;
  }

  std::int64_t num_reaching(float score) const {
    std::int32_t count = 0;
    for (const float value : maxima_) count += value >= score ? 1 : 0;
    return count;
  }

  float exact_threshold(std::int64_t count) {
    scratch_.assign(values_.data(), values_.data() + count);
    for (float& value : scratch_) value = value >= kLowest ? value : kLowest;
    const auto last = scratch_.begin() + (beam_ - 1);
    std::nth_element(scratch_.begin(), last, scratch_.end(), std::greater<float>());
    return *last;
  }

  // best_ = the `beam` best of values [count], ties to the smaller place.
  void choose(std::int64_t count, std::int64_t num_candidates) {
    const std::int64_t found =
        tile_.collect(values_.data(), count, threshold(count, num_candidates), places_.data());
    num_best_ = 0;
    for (std::int64_t i = 0; i < found; ++i) {
      const std::int32_t place = places_[static_cast<Index>(i)];
      const float score = values_[static_cast<Index>(place)];
      if (num_best_ == beam_ && !(score > best_[static_cast<Index>(beam_ - 1)].score)) continue;
      std::int64_t at = std::min(num_best_, beam_ - 1);
      for (; at > 0 && score > best_[static_cast<Index>(at - 1)].score; --at)
        best_[static_cast<Index>(at)] = best_[static_cast<Index>(at - 1)];
      best_[static_cast<Index>(at)] = {score, place};
      num_best_ = std::min(num_best_ + 1, beam_);
    }
    if (num_best_ == 0) best_[num_best_++] = {0.0F, 0};  // only where all are NaN: any code will do
  }

  void take(std::int64_t m, Partials& partials) {
    const std::int64_t all = request_.num_codebooks, width = books_.width();
    for (Index b = 0; b < static_cast<Index>(num_best_); ++b) {
      const std::uint16_t* from = codes_of(partials, best_[b].place / width);
      std::uint16_t* to = new_codes_.data() + static_cast<std::int64_t>(b) * all;
      std::copy(from, from + m, to);
      to[m] = static_cast<std::uint16_t>(best_[b].place % width);
      partials.scores[b] = best_[b].score;
    }
    partials.count = num_best_;
    partials.codes.swap(new_codes_);
    const auto agree = [&](std::int64_t at) {
      for (std::int64_t b = 1; b < partials.count; ++b)
        if (codes_of(partials, b)[at] != codes_of(partials, 0)[at]) return false;
      return true;
    };
    std::int64_t common = partials.num_common;
    while (common <= m && agree(common)) ++common;
    subtract(codes_of(partials, 0), partials.num_common, common, partials.rest.data());
    partials.num_common = common;
  }

  const ResidualRequest& request_;
  const ResidualTile& tile_;
  const Codebooks& books_;
  std::int64_t beam_;
  std::vector<Partials> partials_;        // [num_vectors]
  std::int64_t max_rows_;
  std::vector<float> rows_;               // [max_rows, dim]
  std::vector<float> products_;           // [max_rows, width]
  std::vector<float> along_rows_;         // [max_rows, dim], or empty
  std::vector<float> along_products_;     // [max_rows, width], or empty
  std::int64_t first_vector_ = 0;         // of those encoded
  std::vector<float> values_;             // [beam, width]
  std::vector<std::int32_t> places_;      // [beam * width]
  std::vector<float> maxima_;             // [block]
  std::vector<float> scratch_;
  std::vector<const float*> minus_;
  std::vector<Found> best_;               // [beam]
  std::int64_t num_best_ = 0;
  std::vector<std::uint16_t> new_codes_;  // [beam, num_codebooks]
  std::vector<float> new_along_;          // [beam]
};

}  // namespace

void encode_residual(const ResidualRequest& request, std::int64_t* codes) {
  if (request.num_threads < 1) throw Error(ErrorCode::kConfig, "num_threads: wanted at least 1");
  if (request.beam < 1 || request.beam > kMaxBeam)
    throw Error(ErrorCode::kConfig, "beam: wanted 1 to " + std::to_string(kMaxBeam));
  if (request.num_codewords < 1 || request.num_codewords > 65536 || request.num_codebooks < 1 ||
      request.dim < 1)
    throw Error(ErrorCode::kShape, "codebooks: wanted at least one, of 1 to 65,536 codewords");
  const ResidualTile& tile = *choose_kernel(request.kernel).residual;
  if (request.num_vectors == 0) return;
  const double products = static_cast<double>(request.num_vectors * request.num_codebooks) *
                          static_cast<double>(request.num_codewords * request.dim);
  ResidualRequest paid = request;
  const auto paying = static_cast<std::int64_t>(std::min(products / kThreadProducts, 1024.0)) + 1;
  paid.num_threads = std::min(request.num_threads, paying);
  const Codebooks books(paid, tile);
  const std::int64_t share = (request.num_vectors + paid.num_threads - 1) / paid.num_threads;
  const std::int64_t task_vectors = std::min(share, std::clamp(share / 4, kTaskVectors, kMostVectors));
  const std::int64_t num_tasks = (request.num_vectors + task_vectors - 1) / task_vectors;
  run_tasks(num_tasks, paid.num_threads, [&](TaskCounter& tasks) {
    Encoder encoder(paid, tile, books, task_vectors);
    for (std::int64_t task = tasks.next(); task < num_tasks; task = tasks.next())
      encoder.encode(task * task_vectors,
                     std::min((task + 1) * task_vectors, request.num_vectors), codes);
  });
}

}  // namespace poeem
