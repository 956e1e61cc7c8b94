// A libFuzzer target: what the bindings let through to the core, with hostile counts, codes, offsets, ids, norms, floats,
// filters and requests. Every array is exactly as long as the checked counts say, so that a sanitizer sees any read beyond
// it; every kernel must give the scalar one's answer to the bit. scripts/fuzz builds and runs it.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "poeem/changes.h"
#include "poeem/error.h"
#include "poeem/kernel.h"
#include "poeem/list_bounds.h"
#include "poeem/nearest.h"
#include "poeem/panels.h"
#include "poeem/product.h"
#include "poeem/norms.h"
#include "poeem/residual.h"
#include "poeem/search.h"
#include "poeem/validate.h"

namespace {

using poeem::CodeWidth;
using poeem::IndexView;
using poeem::Metric;

constexpr std::int64_t kMaxElements = 1 << 16;  // larger arrays would only be slow

// Bytes for arrays: what the input has, then a generator that its last bytes started.
class Bytes {
 public:
  explicit Bytes(FuzzedDataProvider& in) : in_(in), state_(in.ConsumeIntegral<std::uint64_t>() | 1) {}

  std::uint64_t next() {
    state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
    return state_;
  }

  template <class T>
  std::vector<T> array(std::int64_t count) {
    std::vector<T> values(static_cast<std::size_t>(count));
    auto* bytes = reinterpret_cast<std::uint8_t*>(values.data());
    const std::size_t size = values.size() * sizeof(T);
    for (std::size_t i = 0; i < size; i += sizeof(std::uint64_t)) {
      const std::uint64_t word = next() * 0x9E3779B97F4A7C15u;
      std::memcpy(bytes + i, &word, std::min(size - i, sizeof word));
    }
    if (size > 0) in_.ConsumeData(bytes, std::min(in_.remaining_bytes() / 4, size));
    return values;
  }

  // Small numbers as they are in life; now and then, where `hostile`, any bits at all: NaN, infinity, denormals, huge.
  std::vector<float> floats(std::int64_t count, bool hostile) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) {
      const std::uint64_t bits = next();
      value = static_cast<float>(static_cast<std::int16_t>(bits >> 20)) / 8192.0F;
      if (hostile && bits >> 61 == 0) {
        const auto any = static_cast<std::uint32_t>(bits >> 8);
        std::memcpy(&value, &any, sizeof value);
      }
    }
    return values;
  }

 private:
  FuzzedDataProvider& in_;
  std::uint64_t state_;
};

std::int64_t count(FuzzedDataProvider& in, std::int64_t low, std::int64_t high, bool wild) {
  return wild && in.ConsumeBool() ? in.ConsumeIntegral<std::int64_t>() : in.ConsumeIntegralInRange(low, high);
}

// Arrays of an index, or none where its counts are refused or too large to be worth it.
struct Index {
  explicit Index(FuzzedDataProvider& in) {
    const bool wild = in.ConsumeIntegral<std::uint8_t>() < 16;
    const bool hostile_floats = in.ConsumeBool();
    honest = !hostile_floats;
    view.metric = static_cast<Metric>(in.ConsumeIntegralInRange(0, 2));
    view.width = in.PickValueInArray({CodeWidth::kFourBit, CodeWidth::kByte, CodeWidth::kByte, CodeWidth::kWord});
    if (wild) view.width = static_cast<CodeWidth>(in.ConsumeIntegral<std::int8_t>());
    const std::int64_t most = view.width == CodeWidth::kFourBit ? 16 : view.width == CodeWidth::kByte ? 256 : 600;
    const bool large = in.ConsumeIntegral<std::uint8_t>() < 24;  // small ones are much faster
    view.num_items = count(in, 0, large ? 1200 : in.ConsumeBool() ? 70 : 300, wild);
    view.num_subspaces = count(in, 1, large ? 5 : 3, wild);
    view.num_codewords = count(in, 1, large ? most : std::min<std::int64_t>(most, 20), wild);
    view.sub_dim = count(in, 1, 3, wild);
    view.num_lists = in.ConsumeBool() ? 0 : count(in, 1, 24, wild);
    view.full_width = in.ConsumeBool();
    const std::int64_t parts = view.full_width ? 1 : view.num_subspaces;
    view.dim = wild && in.ConsumeBool() ? in.ConsumeIntegral<std::int64_t>()
                                        : static_cast<std::int64_t>(static_cast<std::uint64_t>(parts) *
                                                                    static_cast<std::uint64_t>(view.sub_dim));
    poeem::check_counts(view);
    usable = view.num_items < kMaxElements && view.num_subspaces < 200 && view.dim < 200 &&
             view.num_lists < 1000 && num_codebook_floats() < kMaxElements;
    if (usable) fill(in, hostile_floats);
  }

  std::int64_t num_codebook_floats() const {
    return view.num_subspaces * view.sub_dim * view.num_codewords;
  }

  void fill(FuzzedDataProvider& in, bool hostile_floats) {
    Bytes bytes(in);
    codes = bytes.array<std::uint8_t>(view.num_blocks() * view.block_bytes());
    if (in.ConsumeBool()) {  // as they must be
      for (std::size_t i = 0; i < codes.size(); ++i) {
        if (view.width == CodeWidth::kByte) codes[i] = static_cast<std::uint8_t>(codes[i] % view.num_codewords);
        if (view.width == CodeWidth::kWord && i % 2 == 1) codes[i] = 0;
      }
    }
    codebooks = bytes.floats(num_codebook_floats(), hostile_floats);
    rotation = bytes.floats(in.ConsumeBool() ? view.dim * view.dim : 0, hostile_floats);
    centroids = bytes.floats(view.dim * view.num_lists, hostile_floats);
    list_norms = bytes.floats(view.num_lists, hostile_floats);
    const bool hostile_norms = hostile_floats && in.ConsumeBool();
    if (view.uses_norms()) norms = bytes.floats(view.num_items, hostile_norms);
    if (!hostile_norms)
      for (float& norm : norms) norm = std::abs(norm) < 0.3F ? 0.0F : std::abs(norm);
    comparable = !hostile_norms;
    set_ids(in, bytes);
    set_offsets(in, bytes);
    transpose();
    view.codes = codes.data();
    view.codebooks = codebooks.data();
    view.rotation = rotation.empty() ? nullptr : rotation.data();
    view.norms = norms.empty() ? nullptr : norms.data();
    if (view.num_lists == 0) return;
    view.centroids = centroids.data();
    view.list_norms = list_norms.data();
    view.list_offsets = offsets.data();
    lists.pack(centroids.data(), view.num_lists, view.dim);
    view.byte_lists = &lists.lists();
  }

  void set_ids(FuzzedDataProvider& in, Bytes& bytes) {
    const int kind = in.ConsumeIntegralInRange(0, 2);
    distinct = kind == 0;
    if (kind == 1) ids32 = bytes.array<std::uint32_t>(view.num_items);
    if (kind == 2) ids64 = bytes.array<std::int64_t>(view.num_items);
    view.ids32 = ids32.empty() ? nullptr : ids32.data();
    view.ids64 = ids64.empty() ? nullptr : ids64.data();
  }

  void set_offsets(FuzzedDataProvider& in, Bytes& bytes) {
    if (view.num_lists == 0) return;
    const bool hostile = in.ConsumeIntegral<std::uint8_t>() < 32;
    for (std::int64_t l = 0; l <= view.num_lists; ++l) offsets.push_back(view.num_items * l / view.num_lists);
    for (std::size_t l = 1; l + 1 < offsets.size(); ++l)  // uneven, often empty
      offsets[l] = std::min(offsets[l], offsets[l - 1] + static_cast<std::int64_t>(bytes.next() % 300));
    if (hostile) {
      const auto place = in.ConsumeIntegralInRange<std::size_t>(0, offsets.size() - 1);
      offsets[place] = in.ConsumeBool() ? in.ConsumeIntegral<std::int64_t>() : in.ConsumeIntegralInRange<std::int64_t>(-2, view.num_items + 2);
    }
  }

  void transpose() {
    const auto turned = [](const std::vector<float>& from, std::int64_t matrices, std::int64_t rows, std::int64_t columns,
                           std::int64_t panel) {
      std::vector<float> to(from.size());
      for (std::int64_t g = 0; g < matrices; ++g)
        poeem::put_in_panels(from.data() + g * rows * columns, rows, columns, panel, to.data() + g * rows * columns);
      return to;
    };
    if (view.width != CodeWidth::kWord)
      codebooks_t = turned(codebooks, view.num_subspaces, view.num_codewords, view.sub_dim, view.panel_words());
    if (!rotation.empty()) rotation_t = turned(rotation, 1, view.dim, view.dim, view.dim);
    centroids_t = turned(centroids, 1, view.num_lists, view.dim, poeem::kPanelRows);
    view.codebooks_t = codebooks_t.empty() ? nullptr : codebooks_t.data();
    view.rotation_t = rotation_t.empty() ? nullptr : rotation_t.data();
    view.centroids_t = centroids_t.empty() ? nullptr : centroids_t.data();
  }

  IndexView view;
  bool usable = false, honest = false, comparable = false, distinct = false;
  std::vector<std::uint8_t> codes;
  std::vector<float> codebooks, rotation, centroids, list_norms, norms, codebooks_t, rotation_t, centroids_t;
  std::vector<std::uint32_t> ids32;
  std::vector<std::int64_t> ids64, offsets;
  poeem::PackedLists lists;
};

[[noreturn]] void fail(const char* what, const char* kernel) {
  std::fprintf(stderr, "%s: kernel %s\n", what, kernel);
  std::abort();
}

// One a time: each is met by a share of the inputs.
const poeem::Kernel& any_kernel(FuzzedDataProvider& in) {
  const auto& all = poeem::all_kernels();
  const poeem::Kernel& kernel = all[in.ConsumeIntegralInRange<std::size_t>(0, all.size() - 1)];
  return kernel.supported() ? kernel : poeem::choose_kernel("");
}

// An index cut in two, each half with its own bits, answers as the whole.
void same_as_segments(const Index& index, const poeem::SearchRequest& request,
                      const std::vector<std::int64_t>& truth_ids, const std::vector<float>& truth) {
  std::vector<std::uint64_t> even, odd;
  for (std::int64_t word = 0; word < (index.view.num_items + 63) / 64; ++word) {
    const std::uint64_t wanted = request.allowed == nullptr ? ~std::uint64_t{0} : request.allowed[word];
    even.push_back(wanted & 0x5555555555555555u);
    odd.push_back(wanted & 0xAAAAAAAAAAAAAAAAu);
  }
  if (even.empty()) return;
  const std::vector<poeem::Segment> segments = {poeem::Segment(index.view, even.data()),
                                                poeem::Segment(index.view, odd.data())};
  std::vector<std::int64_t> ids(truth_ids);
  std::vector<float> scores(truth);
  poeem::search(segments, request.allowed != nullptr, request, ids.data(), scores.data());
  if (ids != truth_ids || std::memcmp(scores.data(), truth.data(), truth.size() * sizeof(float)) != 0)
    fail("segments differ", request.kernel.c_str());
}

void fuzz_search(FuzzedDataProvider& in) {
  Index index(in);
  if (!index.usable) return;
  poeem::check_offsets(index.view);
  Bytes bytes(in);
  poeem::SearchRequest request;
  request.num_queries = in.ConsumeIntegralInRange(0, 2);
  request.num_heads = in.ConsumeIntegralInRange(1, 2);
  const bool hostile_queries = in.ConsumeIntegral<std::uint8_t>() < 40;
  const std::vector<float> queries = bytes.floats(request.num_queries * request.num_heads * index.view.dim, hostile_queries);
  request.queries = queries.data();
  request.k = count(in, 1, 40, false);
  if (in.ConsumeIntegral<std::uint8_t>() < 8) request.k = in.ConsumeIntegralInRange<std::int64_t>(-1, 2000);
  request.num_probes = in.ConsumeBool() ? 0 : in.ConsumeIntegralInRange<std::int64_t>(-1, 8);
  if (in.ConsumeIntegral<std::uint8_t>() < 8) request.num_probes = in.ConsumeIntegral<std::int64_t>();
  request.num_threads = in.ConsumeIntegral<std::uint8_t>() < 2 ? 2 : 1;  // threads are slow to start
  std::vector<std::uint64_t> allowed;
  if (in.ConsumeBool()) {
    allowed = bytes.array<std::uint64_t>((index.view.num_items + 63) / 64);
    const int rounds = in.ConsumeIntegralInRange(0, 6);  // from half of the items to hardly any
    for (int i = 0; i < rounds; ++i)
      for (std::uint64_t& word : allowed) word &= bytes.next();
    if (!allowed.empty()) request.allowed = allowed.data();
  }
  const std::int64_t size = request.num_queries * std::max<std::int64_t>(request.k, 0);
  std::vector<std::int64_t> truth_ids(static_cast<std::size_t>(size)), ids(truth_ids);
  std::vector<float> truth(static_cast<std::size_t>(size)), scores(truth);
  request.kernel = "scalar";
  poeem::search(index.view, request, truth_ids.data(), truth.data());
  const poeem::Kernel& kernel = any_kernel(in);
  request.kernel = kernel.name;
  poeem::search(index.view, request, ids.data(), scores.data());
  if (size > 0 && index.comparable && index.distinct && in.ConsumeIntegral<std::uint8_t>() < 64)
    same_as_segments(index, request, truth_ids, truth);
  if (size == 0 || !index.comparable) return;
  if (ids != truth_ids || std::memcmp(scores.data(), truth.data(), truth.size() * sizeof(float)) != 0)
    fail("search differs", kernel.name);
}

// A change of this index: ids looked up in arrays that may hold anything, rows joined.
void fuzz_changes(const Index& index, FuzzedDataProvider& in) {
  const poeem::IndexView& view = index.view;
  Bytes bytes(in);
  const std::vector<std::uint64_t> alive = bytes.array<std::uint64_t>((view.num_items + 63) / 64);
  const std::uint64_t* bits = in.ConsumeBool() && !alive.empty() ? alive.data() : nullptr;
  poeem::Lookup lookup;
  lookup.num_items = view.num_items;
  lookup.ids32 = view.ids32, lookup.ids64 = view.ids64;
  const std::vector<std::int32_t> order = bytes.array<std::int32_t>(view.num_items);
  if (in.ConsumeBool() && !order.empty()) lookup.order32 = order.data();
  const std::int64_t count = in.ConsumeIntegralInRange<std::int64_t>(0, 20);
  std::vector<std::int64_t> ids = bytes.array<std::int64_t>(count), positions(ids.size());
  for (std::int64_t i = 0; i < count && view.num_items > 0; i += 2)
    ids[static_cast<std::size_t>(i)] = view.id_at(i % view.num_items);
  poeem::find_alive(lookup, bits, ids.data(), count, positions.data());
  for (const std::int64_t position : positions)
    if (position < -1 || position >= view.num_items) fail("position", "-");
  if (view.uses_norms() && view.norms == nullptr) return;
  poeem::RowSource old, added;
  old.view = &view, old.alive = bits;
  const std::vector<std::uint16_t> codes = bytes.array<std::uint16_t>(count * view.num_subspaces);
  std::vector<std::int32_t> lists(static_cast<std::size_t>(count));
  for (std::int32_t& list : lists)
    list = view.num_lists == 0 ? 0 : static_cast<std::int32_t>(bytes.next() % static_cast<std::uint64_t>(view.num_lists));
  const std::vector<float> norms(static_cast<std::size_t>(count), 1.0F);
  added.num_rows = count, added.ids = ids.data(), added.codes = codes.data();
  added.lists = view.num_lists > 0 ? lists.data() : nullptr;
  added.norms = view.uses_norms() ? norms.data() : nullptr;
  const std::vector<poeem::RowSource> sources = {old, added};
  const std::vector<poeem::JoinedRow> rows = poeem::storage_order(sources);
  const auto num_rows = static_cast<std::int64_t>(rows.size());
  const std::int64_t blocks = (num_rows + poeem::kBlockItems - 1) / poeem::kBlockItems;
  std::vector<std::int64_t> joined_ids(rows.size()), offsets(static_cast<std::size_t>(view.num_lists) + 1);
  std::vector<std::uint16_t> packed(static_cast<std::size_t>(blocks * view.block_bytes()) / 2 + 1);
  std::vector<float> joined_norms(rows.size());
  poeem::JoinedTarget target;
  target.ids = joined_ids.data(), target.codes = packed.data();
  if (view.num_lists > 0) target.list_offsets = offsets.data();
  if (view.uses_norms()) target.norms = joined_norms.data();
  poeem::write_rows(sources, rows, view, target);
  if (view.num_lists > 0 && (offsets.front() != 0 || offsets.back() != num_rows)) fail("joined offsets", "-");
  for (std::size_t i = 1; i < offsets.size(); ++i)
    if (view.num_lists > 0 && offsets[i] < offsets[i - 1]) fail("joined offsets fall", "-");
}

void fuzz_checks(FuzzedDataProvider& in) {
  Index index(in);
  if (!index.usable) return;
  poeem::check_offsets(index.view);
  if (in.ConsumeBool()) return fuzz_changes(index, in);
  const std::int64_t repeated = poeem::find_repeated_id(index.view);
  if (repeated < -1 || repeated >= index.view.num_items) fail("repeated id", "-");
  const bool squared = index.view.metric == Metric::kL2;
  std::vector<float> norms(static_cast<std::size_t>(index.view.num_items));
  poeem::item_norms(index.view, squared, norms.data());
  if (!index.view.uses_norms()) return;
  index.view.norms = norms.data();
  const std::int64_t wrong = poeem::find_wrong_norm(index.view, 1e-5);
  if (wrong != -1 && index.honest) fail("right norms are refused", "-");
}

void fuzz_nearest(FuzzedDataProvider& in) {
  Bytes bytes(in);
  poeem::NearestRequest request;
  request.num_groups = in.ConsumeIntegralInRange(1, 3);
  request.num_points = in.ConsumeIntegralInRange(0, 70);
  request.width = in.ConsumeIntegralInRange(0, 9);
  request.num_centers = in.ConsumeIntegralInRange(0, 40);
  const bool hostile = in.ConsumeBool();
  const bool by_column = in.ConsumeBool();
  const std::vector<float> points = bytes.floats(request.num_groups * request.num_points * request.width, hostile);
  const std::vector<float> centers = bytes.floats(request.num_groups * request.num_centers * request.width, hostile);
  request.points = points.data();
  request.centers = centers.data();
  request.group_stride = request.num_points * request.width;
  request.point_stride = by_column ? 1 : request.width;
  request.coordinate_stride = by_column ? request.num_points : 1;
  request.num_threads = in.ConsumeIntegralInRange(0, 1);
  std::vector<std::int64_t> found(static_cast<std::size_t>(request.num_points * request.num_groups));
  request.kernel = any_kernel(in).name;
  poeem::nearest(request, found.data());
  for (std::int64_t center : found)
    if (center < 0 || center >= request.num_centers) fail("no such center", request.kernel.c_str());
}

void fuzz_encode(FuzzedDataProvider& in) {
  Bytes bytes(in);
  poeem::ResidualRequest request;
  request.num_vectors = in.ConsumeIntegralInRange(0, 40);
  request.dim = in.ConsumeIntegralInRange(0, 9);
  request.num_codebooks = in.ConsumeIntegralInRange(0, 4);
  request.num_codewords = in.ConsumeIntegralInRange(0, 40);
  request.beam = in.ConsumeIntegral<std::uint8_t>() < 16 ? in.ConsumeIntegralInRange<std::int64_t>(-1, 300)
                                                         : in.ConsumeIntegralInRange<std::int64_t>(1, 9);
  const bool hostile = in.ConsumeBool();
  const std::vector<float> vectors = bytes.floats(request.num_vectors * request.dim, hostile);
  const std::vector<float> codebooks =
      bytes.floats(request.num_codebooks * request.num_codewords * request.dim, hostile);
  request.vectors = vectors.data();
  const std::vector<float> along = bytes.floats(request.num_vectors * request.dim, hostile);
  request.codebooks = codebooks.data();
  request.along = in.ConsumeBool() ? along.data() : nullptr;
  request.num_threads = in.ConsumeIntegralInRange(0, 1);
  request.kernel = any_kernel(in).name;
  std::vector<std::int64_t> codes(static_cast<std::size_t>(request.num_vectors * request.num_codebooks), -1);
  poeem::encode_residual(request, codes.data());
  for (std::int64_t code : codes)
    if (code < 0 || code >= request.num_codewords) fail("no such codeword", request.kernel.c_str());
}

void fuzz_descend(FuzzedDataProvider& in) {
  Bytes bytes(in);
  poeem::DescentRequest request;
  request.num_vectors = in.ConsumeIntegralInRange(0, 40);
  request.num_codebooks = in.ConsumeIntegralInRange(0, 4);
  request.num_codewords = in.ConsumeIntegralInRange(0, 80);
  request.width = in.ConsumeIntegralInRange(0, 5);
  request.num_passes = in.ConsumeIntegralInRange(-1, 9);
  const bool hostile = in.ConsumeBool();
  const std::int64_t size = request.num_vectors * request.num_codebooks * request.width;
  const std::vector<float> vectors = bytes.floats(size, hostile), along = bytes.floats(size, hostile);
  const std::vector<float> codebooks = bytes.floats(request.num_codebooks * request.num_codewords * request.width, hostile);
  request.vectors = vectors.data();
  request.along = along.data();
  request.codebooks = codebooks.data();
  request.num_threads = in.ConsumeIntegralInRange(0, 2);
  request.kernel = any_kernel(in).name;
  std::vector<std::int64_t> codes(static_cast<std::size_t>(request.num_vectors * request.num_codebooks));
  const std::int64_t least = hostile ? -1 : 0, most = std::max<std::int64_t>(request.num_codewords - (hostile ? 0 : 1), 0);
  for (std::int64_t& code : codes) code = in.ConsumeIntegralInRange(least, most);
  poeem::descend(request, codes.data());
  for (std::int64_t code : codes)
    if (code < 0 || code >= request.num_codewords) fail("no such codeword", request.kernel.c_str());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider in(data, size);
  try {
    const int target = in.ConsumeIntegralInRange(0, 7);
    if (target == 0) {
      fuzz_nearest(in);
    } else if (target == 1) {
      fuzz_encode(in);
    } else if (target == 2) {
      fuzz_checks(in);
    } else if (target == 3) {
      fuzz_descend(in);
    } else {
      fuzz_search(in);
    }
  } catch (const poeem::Error&) {  // refused, as it should be
  }
  return 0;
}
