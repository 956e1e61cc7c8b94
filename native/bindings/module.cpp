// The Python face of the core: check, release the GIL, call, convert errors. No arithmetic here.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <atomic>
#include <exception>
#include <string>
#include <tuple>
#include <vector>

#include "arrays.h"
#include "plain_search.h"
#include "poeem/flags.h"
#include "poeem/givens.h"
#include "poeem/kernel.h"
#include "poeem/nearest.h"
#include "poeem/norms.h"
#include "poeem/product.h"
#include "poeem/residual.h"
#include "poeem/search.h"
#include "turns.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using namespace bindings;

// Segments that are searched as one index, and which of their items are wanted.
class Segments {
 public:
  // num_wanted: how many bits are set, if known; they are counted otherwise.
  void add(const Arrays& arrays, std::optional<Bits> wanted, std::optional<std::int64_t> num_wanted) {
    const poeem::IndexView& view = arrays.view();
    require_aligned(wanted);
    require(!wanted || static_cast<std::int64_t>(wanted->shape(0)) == (view.num_items + 63) / 64,
            "wanted: not a bit per item");
    if (!segments_.empty()) {
      const poeem::IndexView& first = *segments_[0].view;
      // The first one's table and biases serve all: pointers alone would not tell one shape from another.
      require(view.codebooks == first.codebooks && view.rotation == first.rotation &&
                  view.centroids == first.centroids && view.num_lists == first.num_lists &&
                  view.metric == first.metric && view.width == first.width &&
                  view.num_subspaces == first.num_subspaces && view.sub_dim == first.sub_dim &&
                  view.num_codewords == first.num_codewords,
              "segments: not of one quantizer");
    }
    const std::uint64_t* bits = wanted ? wanted->data() : nullptr;
    if (wanted && num_wanted) {
      require(*num_wanted >= 0 && *num_wanted <= view.num_items, "num_wanted: not from 0 to num_items");
      segments_.emplace_back(view, bits, *num_wanted);
    } else {
      segments_.emplace_back(view, bits);
    }
    if (wanted) bits_.push_back(*wanted);
  }

  const std::vector<poeem::Segment>& get() const { return segments_; }

 private:
  std::vector<poeem::Segment> segments_;
  std::vector<Bits> bits_;
};

std::tuple<Output<std::int64_t, 2>, Output<float, 2>> search_segments(
    const Segments& segments, Input<float, 3> queries, std::int64_t k, std::int64_t num_probes,
    std::int64_t num_threads, const std::string& kernel, bool widens,
    std::atomic<std::int64_t>* num_scored = nullptr) {
  require(!segments.get().empty(), "segments: none");
  const poeem::IndexView& view = *segments.get()[0].view;
  require_aligned(queries);
  require(queries.shape(1) > 0, "queries: no heads");
  require(static_cast<std::int64_t>(queries.shape(2)) == view.dim, "queries: not of width dim");
  if (k < 1) throw Error(ErrorCode::kConfig, "k: wanted at least 1");
  poeem::SearchRequest request;
  request.queries = queries.data();
  request.num_queries = static_cast<std::int64_t>(queries.shape(0));
  request.num_heads = static_cast<std::int64_t>(queries.shape(1));
  request.k = k;
  request.num_probes = num_probes;
  request.num_threads = num_threads;
  request.kernel = kernel;
  request.num_scored = num_scored;
  auto ids = new_array<std::int64_t, 2>({queries.shape(0), static_cast<std::size_t>(k)});
  auto scores = new_array<float, 2>({queries.shape(0), static_cast<std::size_t>(k)});
  released_to_search(request,
                     [&] { poeem::search(segments.get(), widens, request, ids.data(), scores.data()); });
  return {ids, scores};
}

nb::object search_segments_plain(const Segments& segments, nb::handle queries, nb::handle k, nb::handle num_probes,
                                 nb::handle num_threads) {
  require(!segments.get().empty(), "segments: none");
  std::int64_t num_wanted = 0;
  for (const poeem::Segment& segment : segments.get()) num_wanted += segment.num_wanted;
  return search_plainly(*segments.get()[0].view, num_wanted, queries, k, num_probes, num_threads,
                        [&](const poeem::SearchRequest& request, std::int64_t* ids, float* scores) {
                          poeem::search(segments.get(), false, request, ids, scores);
                        });
}

std::tuple<Output<std::int64_t, 2>, Output<float, 2>> search(
    const Arrays& arrays, Input<float, 3> queries, std::int64_t k, std::int64_t num_probes,
    std::int64_t num_threads, const std::string& kernel, std::optional<Bits> allowed) {
  Segments all;
  all.add(arrays, allowed, std::nullopt);
  return search_segments(all, queries, k, num_probes, num_threads, kernel, allowed.has_value());
}

std::int64_t count_scored(const Arrays& arrays, Input<float, 3> queries, std::int64_t k, std::int64_t num_probes,
                          std::int64_t num_threads, const std::string& kernel) {
  Segments all;
  all.add(arrays, std::nullopt, std::nullopt);
  std::atomic<std::int64_t> count{0};
  search_segments(all, queries, k, num_probes, num_threads, kernel, false, &count);
  return count;
}

Output<float, 1> item_norms(const Arrays& arrays, bool squared) {
  auto norms = new_array<float, 1>({static_cast<std::size_t>(arrays.view().num_items)});
  {
    nb::gil_scoped_release release;
    poeem::item_norms(arrays.view(), squared, norms.data());
  }
  return norms;
}

// wanted: a flag for each id from low on, and one more, which is false.
Output<bool, 1> flags_of(Ids ids, Input<bool, 1> wanted, std::int64_t low) {
  require_aligned(ids);
  require(wanted.shape(0) > 0 && !wanted.data()[wanted.shape(0) - 1], "wanted: its last flag is for all other ids");
  const std::uint64_t span = wanted.shape(0) - 1;
  const std::size_t count = std::visit([](const auto& some) { return some.shape(0); }, ids);
  auto flags = new_array<bool, 1>({count});
  {
    nb::gil_scoped_release release;
    std::visit(
        [&](const auto& some) {
          poeem::flags_of(some.data(), static_cast<std::int64_t>(count), wanted.data(), span, static_cast<std::uint64_t>(low),
                          flags.data());
        },
        ids);
  }
  return flags;
}

std::int64_t repeated_id(const Arrays& arrays) {
  nb::gil_scoped_release release;
  return poeem::find_repeated_id(arrays.view());
}

std::int64_t wrong_norm(const Arrays& arrays, double tolerance) {
  nb::gil_scoped_release release;
  return poeem::find_wrong_norm(arrays.view(), tolerance);
}

// Points may have any strides; what comes back is [num_points, num_groups].
Output<std::int64_t, 2> nearest(nb::ndarray<const float, nb::ndim<3>, nb::device::cpu> points,
                                Input<float, 3> centers, std::int64_t num_threads,
                                const std::string& kernel) {
  require_aligned(points), require_aligned(centers);
  require(points.shape(0) == centers.shape(0), "points and centers: wanted as many groups");
  require(points.shape(2) == centers.shape(2), "points and centers: wanted one width");
  poeem::NearestRequest request;
  request.points = points.data();
  request.group_stride = points.stride(0);
  request.point_stride = points.stride(1);
  request.coordinate_stride = points.stride(2);
  request.centers = centers.data();
  request.num_groups = static_cast<std::int64_t>(points.shape(0));
  request.num_points = static_cast<std::int64_t>(points.shape(1));
  request.width = static_cast<std::int64_t>(points.shape(2));
  request.num_centers = static_cast<std::int64_t>(centers.shape(1));
  request.num_threads = num_threads;
  request.kernel = kernel;
  auto found = new_array<std::int64_t, 2>({points.shape(1), points.shape(0)});
  {
    nb::gil_scoped_release release;
    poeem::nearest(request, found.data());
  }
  return found;
}

Output<std::int64_t, 2> encode_residual(Input<float, 2> vectors, Input<float, 3> codebooks,
                                        std::int64_t beam, std::int64_t num_threads,
                                        const std::string& kernel, std::optional<Input<float, 2>> along) {
  require(vectors.shape(1) == codebooks.shape(2), "vectors and codebooks: wanted one width");
  require(!along || (along->shape(0) == vectors.shape(0) && along->shape(1) == vectors.shape(1)),
          "along: wanted the shape of vectors");
  poeem::ResidualRequest request;
  request.vectors = vectors.data();
  request.codebooks = codebooks.data();
  request.along = along ? along->data() : nullptr;
  request.num_vectors = static_cast<std::int64_t>(vectors.shape(0));
  request.dim = static_cast<std::int64_t>(vectors.shape(1));
  request.num_codebooks = static_cast<std::int64_t>(codebooks.shape(0));
  request.num_codewords = static_cast<std::int64_t>(codebooks.shape(1));
  request.beam = beam;
  request.num_threads = num_threads;
  request.kernel = kernel;
  auto codes = new_array<std::int64_t, 2>({vectors.shape(0), codebooks.shape(0)});
  {
    nb::gil_scoped_release release;
    poeem::encode_residual(request, codes.data());
  }
  return codes;
}

template <class T>
using Changed = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// codes: where to begin, and then the result.
void descend(Changed<std::int64_t> codes, Input<float, 2> vectors, Input<float, 3> codebooks, Input<float, 2> along,
             std::int64_t num_passes, std::int64_t num_threads, const std::string& kernel) {
  require(vectors.shape(1) == codebooks.shape(0) * codebooks.shape(2), "vectors and codebooks: wanted one width");
  require(along.shape(0) == vectors.shape(0) && along.shape(1) == vectors.shape(1), "along: wanted the shape of vectors");
  require(codes.shape(0) == vectors.shape(0) && codes.shape(1) == codebooks.shape(0),
          "codes: wanted one of each codebook for each vector");
  poeem::DescentRequest request;
  request.vectors = vectors.data();
  request.along = along.data();
  request.codebooks = codebooks.data();
  request.num_vectors = static_cast<std::int64_t>(vectors.shape(0));
  request.num_codebooks = static_cast<std::int64_t>(codebooks.shape(0));
  request.num_codewords = static_cast<std::int64_t>(codebooks.shape(1));
  request.width = static_cast<std::int64_t>(codebooks.shape(2));
  request.num_passes = num_passes;
  request.num_threads = num_threads;
  request.kernel = kernel;
  nb::gil_scoped_release release;
  poeem::descend(request, codes.data());
}

nb::dict cpu_features() {
  nb::dict result;
  for (const poeem::CpuFeature& feature : poeem::cpu_features()) result[feature.name] = feature.present;
  return result;
}

void givens_turn(Changed<float> product, Changed<float> rotation,
                 std::optional<Changed<float>> mean, std::optional<Changed<float>> square,
                 std::tuple<float, float> decays, std::tuple<double, double> scales, double lr,
                 std::optional<Input<std::int64_t, 1>> partner, const std::string& kernel) {
  const std::size_t dim = rotation.shape(0);
  const auto fits = [&](const Changed<float>& m) { return m.shape(0) == dim && m.shape(1) == dim; };
  require(fits(rotation) && fits(product), "product and rotation: not [dim, dim]");
  require(mean.has_value() == square.has_value(), "mean and square: wanted both or none");
  poeem::GivensRequest request;
  request.dim = static_cast<std::int64_t>(dim);
  request.product = product.data();
  request.rotation = rotation.data();
  if (mean) {
    require(fits(*mean) && fits(*square), "mean and square: not [dim, dim]");
    request.mean = mean->data();
    request.square = square->data();
  }
  std::tie(request.decay_mean, request.decay_square) = decays;
  std::tie(request.scale_mean, request.scale_square) = scales;
  request.lr = lr;
  request.kernel = kernel;
  if (partner) {
    require(partner->shape(0) == dim, "partner: not [dim]");
    for (std::size_t i = 0; i < dim; ++i) {
      const auto j = static_cast<std::size_t>(partner->data()[i]);
      require(j < dim && partner->data()[j] == static_cast<std::int64_t>(i), "partner: not mutual");
    }
    request.partner = partner->data();
  }
  nb::gil_scoped_release release;
  poeem::givens_turn(request);
}

Output<std::int64_t, 1> greedy_pairs(Input<float, 2> weights, const std::string& kernel) {
  require(weights.shape(0) == weights.shape(1), "weights: not square");
  auto partner = new_array<std::int64_t, 1>({weights.shape(0)});
  nb::gil_scoped_release release;
  poeem::greedy_pairs(weights.data(), static_cast<std::int64_t>(weights.shape(0)), kernel, partner.data());
  return partner;
}

nb::list kernels() {
  nb::list result;
  for (const poeem::Kernel& kernel : poeem::all_kernels()) {
    nb::dict entry;
    entry["name"] = kernel.name;
    entry["description"] = kernel.description;
    entry["required_cpu"] = kernel.required_cpu;
    entry["supported"] = kernel.supported();
    result.append(entry);
  }
  return result;
}

void translate_error(const std::exception_ptr& pointer, void*) {
  try {
    std::rethrow_exception(pointer);
  } catch (const Error& error) {
    const char* name = "CorruptIndexError";
    if (error.code() == ErrorCode::kShape) name = "ShapeError";
    if (error.code() == ErrorCode::kConfig) name = "ConfigError";
    const nb::object type = nb::module_::import_("poeem.errors").attr(name);
    PyErr_SetString(type.ptr(), error.what());
  }
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The search engine. Use poeem.Index, which checks what it passes on.";
  nb::register_exception_translator(translate_error);
  nb::set_leak_warnings(false);  // what a daemon thread holds lives until the interpreter ends: no fault to report
  m.attr("BLOCK_ITEMS") = poeem::kBlockItems;
  m.attr("KERNEL_VARIABLE") = kKernelVariable;  // the environment variable that forces a kernel

  nb::class_<Arrays>(m, "Arrays", "The arrays of an index, borrowed: none of items is copied.")
      .def(nb::init<const std::string&, const std::string&, std::int64_t, int, Codes, Input<float, 3>,
                    std::optional<Input<float, 2>>, std::optional<Input<float, 2>>,
                    std::optional<Input<float, 1>>, std::optional<Input<std::int64_t, 1>>,
                    std::optional<Ids>, std::optional<Input<float, 1>>>(),
           nb::kw_only(), "metric"_a, "family"_a = "product", "num_items"_a, "code_bits"_a, "codes"_a.noconvert(),
           "codebooks"_a.noconvert(), "rotation"_a.noconvert().none() = nb::none(),
           "centroids"_a.noconvert().none() = nb::none(),
           "list_norms"_a.noconvert().none() = nb::none(),
           "list_offsets"_a.noconvert().none() = nb::none(),
           "ids"_a.noconvert().none() = nb::none(), "norms"_a.noconvert().none() = nb::none())
      .def(nb::init<const Arrays&, std::int64_t, Codes, std::optional<Input<std::int64_t, 1>>,
                    std::optional<Ids>, std::optional<Input<float, 1>>>(),
           nb::keep_alive<1, 2>(), "quantizer"_a, nb::kw_only(), "num_items"_a,
           "codes"_a.noconvert(), "list_offsets"_a.noconvert().none() = nb::none(),
           "ids"_a.noconvert().none() = nb::none(), "norms"_a.noconvert().none() = nb::none());
  nb::class_<Segments>(m, "Segments", "Arrays of one quantizer that are searched as one index.")
      .def(nb::init<>())
      .def("add", &Segments::add, nb::keep_alive<1, 2>(), "arrays"_a, nb::kw_only(),
           "wanted"_a.noconvert().none(), "num_wanted"_a = nb::none(),
           "Add items; wanted: a bit for each, uint64 [ceil(num_items / 64)], None = all; num_wanted: how many "
           "are set, counted if None.");
  m.def("search_segments",
        [](const Segments& segments, Input<float, 3> queries, std::int64_t k, std::int64_t num_probes,
           std::int64_t num_threads, const std::string& kernel, bool widens) {
          return search_segments(segments, queries, k, num_probes, num_threads, kernel, widens);
        },
        "segments"_a, nb::kw_only(), "queries"_a.noconvert(),
        "k"_a, "num_probes"_a, "num_threads"_a, "kernel"_a, "widens"_a,
        "Search like `search`; widens: visit further lists until there are k.");
  m.def("search", &search, "arrays"_a, nb::kw_only(), "queries"_a.noconvert(), "k"_a,
        "num_probes"_a, "num_threads"_a, "kernel"_a, "allowed"_a.noconvert().none() = nb::none(),
        "Search float32 [num_queries, num_heads, dim]; num_probes 0 = all lists, kernel '' = best. "
        "Returns ids int64 and scores float32, both [num_queries, k].");
  m.def("count_scored", &count_scored, "arrays"_a, nb::kw_only(), "queries"_a.noconvert(), "k"_a, "num_probes"_a,
        "num_threads"_a, "kernel"_a = "",
        "Search like `search`, and return how many items were scored in float, for all queries together: the first "
        "ones, and what passed the bounds.");
  m.def("search_plain", &search_plain, "arrays"_a, "queries"_a.none(), "k"_a.none(), "num_probes"_a.none(),
        "num_threads"_a.none(),
        nb::sig("def search_plain(arrays: Arrays, queries: object, k: object, num_probes: object, num_threads: object) "
                "-> tuple[NDArray[numpy.int64], NDArray[numpy.float32]] | None"),
        "Search like `search` without a filter if the arguments are plainly right: contiguous float32 queries, finite, "
        "[dim], [n, dim] or [n, num_heads, dim]; ints in their ranges, k at most num_items; num_probes None = all. Else "
        "return None, and whoever asked must look closer.");
  m.def("search_segments_plain", &search_segments_plain, "segments"_a, "queries"_a.none(), "k"_a.none(),
        "num_probes"_a.none(), "num_threads"_a.none(),
        nb::sig("def search_segments_plain(segments: Segments, queries: object, k: object, num_probes: object, "
                "num_threads: object) -> tuple[NDArray[numpy.int64], NDArray[numpy.float32]] | None"),
        "The same as `search_plain` for `search_segments`; k at most the wanted items.");
  m.def("item_norms", &item_norms, "arrays"_a, nb::kw_only(), "squared"_a,
        "Return |T(x)|, or its square, of every item: float32 [num_items].");
  m.def("flags_of", &flags_of, "ids"_a.noconvert(), "wanted"_a.noconvert(), nb::kw_only(), "low"_a,
        "Whether each of ids uint32|int64 [n] is wanted, bool [n]. wanted: bool [span + 1], a flag for each id from low on, "
        "and a last that is false, for all others.");
  m.def("repeated_id", &repeated_id, "arrays"_a,
        "Return the position of an item whose id an earlier list holds too, or -1; ids must rise "
        "within a list.");
  m.def("wrong_norm", &wrong_norm, "arrays"_a, nb::kw_only(), "tolerance"_a,
        "Return the first item whose norm is off the right one by more than this share, or -1.");
  m.def("nearest", &nearest, "points"_a.noconvert(), "centers"_a.noconvert(), nb::kw_only(),
        "num_threads"_a, "kernel"_a,
        "Return the nearest center of float32 points [num_groups, n, width], any strides, among "
        "centers [num_groups, num_centers, width]: int64 [n, num_groups].");
  m.def("encode_residual", &encode_residual, "vectors"_a.noconvert(), "codebooks"_a.noconvert(),
        nb::kw_only(), "beam"_a, "num_threads"_a, "kernel"_a,
        "along"_a.noconvert().none() = nb::none(),
        "Return residual codes of float32 vectors [n, dim] by codebooks [num_subspaces, "
        "num_codewords, dim], found by a beam search: int64 [n, num_subspaces]. An error e costs "
        "|e|^2, and with `along` [n, dim] <e, along>^2 more.");
  m.def("descend", &descend, "codes"_a.noconvert(), "vectors"_a.noconvert(), "codebooks"_a.noconvert(),
        "along"_a.noconvert(), nb::kw_only(), "num_passes"_a, "num_threads"_a, "kernel"_a,
        "Change product codes int64 [n, num_subspaces] in place, one at a time, as long as errors e of float32 vectors "
        "[n, dim] then cost less, |e|^2 + <e, along>^2.");
  add_changes(m);
  m.def("cpu_features", &cpu_features, nb::sig("def cpu_features() -> dict[str, bool]"),
        "What kernels ask of this machine, and whether it has it.");
  m.def("givens_turn", &givens_turn, nb::kw_only(), "product"_a.noconvert(), "rotation"_a.noconvert(),
        "mean"_a.noconvert().none() = nb::none(), "square"_a.noconvert().none() = nb::none(),
        "decays"_a, "scales"_a, "lr"_a, "partner"_a.noconvert().none() = nb::none(), "kernel"_a,
        "Turn `rotation` and update the moments in place; `product`, G R^T, may be changed. All float32 "
        "[dim, dim]. No partner = greedy pairs.");
  m.def("greedy_pairs", &greedy_pairs, "weights"_a.noconvert(), nb::kw_only(), "kernel"_a,
        "Return the partner of each row, int64 [dim], largest |weight| first: float32 [dim, dim].");
  m.def("kernels", &kernels, nb::sig("def kernels() -> list[dict[str, str | bool]]"),
        "List the scan kernels, the most wanted first.");
  m.def("choose_kernel", [](const std::string& name) { return poeem::choose_kernel(name).name; },
        "name"_a, "Return the name of the kernel that `name` stands for; '' = the best.");
}
