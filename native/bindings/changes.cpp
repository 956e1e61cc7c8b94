// What a change does to a live index, without the interpreter: searches of other threads go on meanwhile.
#include "poeem/changes.h"

#include <pthread.h>

#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>
#include <utility>

#include "arrays.h"
#include "turns.h"

using namespace nanobind::literals;

namespace bindings {
namespace {

using Order = std::variant<Input<std::int32_t, 1>, Input<std::int64_t, 1>>;
using IdArray = Input<std::int64_t, 1>;
using Owner = std::unique_ptr<std::uint64_t[]>;

// Where ids stand in an index; borrows the arrays.
class Lookup {
 public:
  Lookup(std::int64_t num_items, std::optional<Ids> sorted, std::optional<Order> order)
      : sorted_(sorted), order_(order) {
    require(num_items >= 0, "num_items: negative");
    require_aligned(sorted_), require_aligned(order_);
    const auto count = static_cast<std::size_t>(num_items);
    lookup_.num_items = num_items;
    if (sorted_) {
      require(std::visit([](const auto& ids) { return ids.size(); }, *sorted_) == count, "sorted: not [num_items]");
      if (const auto* narrow = std::get_if<0>(&*sorted_)) lookup_.ids32 = narrow->data();
      if (const auto* wide = std::get_if<1>(&*sorted_)) lookup_.ids64 = wide->data();
    }
    if (order_) {
      require(std::visit([](const auto& one) { return one.size(); }, *order_) == count, "order: not [num_items]");
      if (const auto* narrow = std::get_if<0>(&*order_)) lookup_.order32 = narrow->data();
      if (const auto* wide = std::get_if<1>(&*order_)) lookup_.order64 = wide->data();
    }
  }

  const poeem::Lookup& get() const { return lookup_; }

 private:
  std::optional<Ids> sorted_;
  std::optional<Order> order_;
  poeem::Lookup lookup_;
};

void check_bits(const Lookup& lookup, const std::optional<Bits>& alive) {
  require_aligned(alive);
  require(!alive || static_cast<std::int64_t>(alive->shape(0)) == (lookup.get().num_items + 63) / 64,
          "alive: not a bit per item");
}

Output<std::int64_t, 1> find(const Lookup& lookup, IdArray ids, std::optional<Bits> alive) {
  check_bits(lookup, alive);
  require_aligned(ids);
  auto positions = new_array<std::int64_t, 1>({ids.shape(0)});
  {
    nb::gil_scoped_release release;
    poeem::find_alive(lookup.get(), alive ? alive->data() : nullptr, ids.data(),
                      static_cast<std::int64_t>(ids.shape(0)), positions.data());
  }
  return positions;
}

#ifdef POEEM_PLANTED_RACE
// What a change must never do: write to bits that searches are reading.
[[gnu::noinline]] void planted_race(const std::uint64_t* alive, std::int64_t position) {
  if (alive != nullptr) const_cast<std::uint64_t*>(alive)[position / 64] &= ~(std::uint64_t{1} << (position % 64));
}
#endif

// Bits with those of some items cleared; `alive` empty where nothing changed.
struct Cleared {
  Owner alive;
  std::size_t num_words = 0;
  std::int64_t num_cleared = 0;
};

Cleared clear(const poeem::Lookup& lookup, const std::uint64_t* alive, const std::vector<std::int64_t>& ids) {
  Cleared cleared;
  std::vector<std::int64_t> positions(ids.size());
  poeem::find_alive(lookup, alive, ids.data(), static_cast<std::int64_t>(ids.size()), positions.data());
  cleared.num_words = static_cast<std::size_t>((lookup.num_items + 63) / 64);
  for (const std::int64_t position : positions) {
    if (position < 0) continue;
    if (!cleared.alive) {
      cleared.alive.reset(new std::uint64_t[cleared.num_words]);
      if (alive != nullptr) {
        std::copy(alive, alive + cleared.num_words, cleared.alive.get());
      } else {
        std::fill(cleared.alive.get(), cleared.alive.get() + cleared.num_words, ~std::uint64_t{0});
        if (lookup.num_items % 64 != 0)
          cleared.alive[cleared.num_words - 1] = ~std::uint64_t{0} >> (64 - lookup.num_items % 64);
      }
    }
    std::uint64_t& word = cleared.alive[static_cast<std::size_t>(position / 64)];
    const std::uint64_t bit = std::uint64_t{1} << (position % 64);
    cleared.num_cleared += (word & bit) != 0 ? 1 : 0;  // an id may be there twice
    word &= ~bit;
#ifdef POEEM_PLANTED_RACE
    planted_race(alive, position);
#endif
  }
  return cleared;
}

nb::list without(const std::vector<std::pair<const Lookup*, std::optional<Bits>>>& segments,
                 const std::vector<IdArray>& ids) {
  for (const auto& [lookup, alive] : segments) check_bits(*lookup, alive);
  for (const IdArray& one : ids) require_aligned(one);
  std::vector<Cleared> found;
  {
    nb::gil_scoped_release release;
    std::vector<std::int64_t> gone;
    for (const IdArray& one : ids) gone.insert(gone.end(), one.data(), one.data() + one.size());
    std::sort(gone.begin(), gone.end());  // neighbours are looked up in memory that is near
    for (const auto& [lookup, alive] : segments)
      found.push_back(clear(lookup->get(), alive ? alive->data() : nullptr, gone));
  }
  nb::list result;
  for (Cleared& one : found) {
    if (one.num_cleared == 0) {
      result.append(nb::none());
      continue;
    }
    std::uint64_t* data = one.alive.get();
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<std::uint64_t*>(p); });
    one.alive.release();
    result.append(nb::make_tuple(Output<std::uint64_t, 1>(data, {one.num_words}, owner), one.num_cleared));
  }
  return result;
}

// Codes of rows that belong to no index yet: [n, num_subspaces].
using PlainCodes = std::variant<Input<std::uint8_t, 2>, Input<std::uint16_t, 2>>;

poeem::RowSource plain_source(const poeem::IndexView& like, const IdArray& ids, const PlainCodes& codes,
                              const std::optional<Input<std::int32_t, 1>>& lists,
                              const std::optional<Input<float, 1>>& norms) {
  require_aligned(ids), require_aligned(codes), require_aligned(lists), require_aligned(norms);
  const std::size_t count = ids.shape(0);
  poeem::RowSource source;
  source.num_rows = static_cast<std::int64_t>(count);
  source.ids = ids.data();
  std::visit([&](const auto& rows) {
    require(rows.shape(0) == count && static_cast<std::int64_t>(rows.shape(1)) == like.num_subspaces &&
                (rows.itemsize() == 2) == (like.width == poeem::CodeWidth::kWord),
            "codes: not [n, num_subspaces] of the index's type");
    source.codes = rows.data();
  }, codes);
  require(lists.has_value() == (like.num_lists > 0), "lists: wanted iff there are lists");
  if (lists) {
    require(lists->shape(0) == count, "lists: not [n]");
    source.lists = lists->data();
    for (std::size_t i = 0; i < count; ++i)
      require(source.lists[i] >= 0 && source.lists[i] < like.num_lists, "lists: not below num_lists");
  }
  require(norms.has_value() == like.uses_norms(), "norms: wanted iff the metric uses them");
  if (norms) require(norms->shape(0) == count, "norms: not [n]");
  if (norms) source.norms = norms->data();
  return source;
}

poeem::RowSource view_source(const poeem::IndexView& like, const Arrays& arrays, const std::optional<Bits>& alive) {
  const poeem::IndexView& view = arrays.view();
  require(view.codebooks == like.codebooks && view.num_lists == like.num_lists && view.width == like.width &&
              view.num_subspaces == like.num_subspaces && view.metric == like.metric &&
              (view.norms != nullptr) == like.uses_norms(),
          "segments: not of one quantizer");
  require_aligned(alive);
  require(!alive || static_cast<std::int64_t>(alive->shape(0)) == (view.num_items + 63) / 64,
          "alive: not a bit per item");
  poeem::RowSource source;
  source.view = &view;
  source.alive = alive ? alive->data() : nullptr;
  return source;
}

// An array of zeros that starts at a cache line, as codes are wanted.
template <class T>
nb::object packed_codes(const poeem::IndexView& like, std::int64_t num_rows, void** data) {
  constexpr std::size_t kLine = 64;
  const auto blocks = static_cast<std::size_t>((num_rows + poeem::kBlockItems - 1) / poeem::kBlockItems);
  const std::size_t bytes = blocks * static_cast<std::size_t>(like.block_bytes());
  void* room = ::operator new(std::max<std::size_t>(bytes, 1), std::align_val_t{kLine});
  nb::capsule owner(room, [](void* p) noexcept { ::operator delete(p, std::align_val_t{kLine}); });
  std::memset(room, 0, bytes);
  *data = room;
  const auto columns = static_cast<std::size_t>(like.columns());
  const auto items = static_cast<std::size_t>(poeem::kBlockItems);
  return nb::cast(Output<T, 3>(static_cast<T*>(room), {blocks, columns, items}, owner));
}

// What FORMAT.md calls storage order, of the rows of segments that are alive and of new ones.
nb::dict join(const Arrays& quantizer, const std::vector<std::pair<const Arrays*, std::optional<Bits>>>& segments,
              IdArray ids, PlainCodes codes, std::optional<Input<std::int32_t, 1>> lists,
              std::optional<Input<float, 1>> norms) {
  const poeem::IndexView& like = quantizer.view();
  std::vector<poeem::RowSource> sources;
  std::vector<std::int64_t> firsts;  // of each source, among the rows of all
  std::int64_t total = 0;
  for (const auto& [arrays, alive] : segments) {
    sources.push_back(view_source(like, *arrays, alive));
    firsts.push_back(total);
    total += arrays->view().num_items;
  }
  sources.push_back(plain_source(like, ids, codes, lists, norms));
  firsts.push_back(total);
  std::vector<poeem::JoinedRow> rows;
  std::vector<std::int64_t> by_id;
  {
    nb::gil_scoped_release release;
    rows = poeem::storage_order(sources);
    if (like.num_lists > 0) {
      by_id.resize(rows.size());
      std::iota(by_id.begin(), by_id.end(), std::int64_t{0});
      std::sort(by_id.begin(), by_id.end(), [&](std::int64_t a, std::int64_t b) {
        return rows[static_cast<std::size_t>(a)].id < rows[static_cast<std::size_t>(b)].id;
      });
    }
  }
  const std::size_t count = rows.size();
  auto joined_ids = new_array<std::int64_t, 1>({count});
  auto places = new_array<std::int64_t, 1>({count});
  poeem::JoinedTarget target;
  target.ids = joined_ids.data();
  const auto num_rows = static_cast<std::int64_t>(count);
  const nb::object packed = like.width == poeem::CodeWidth::kWord
                                ? packed_codes<std::uint16_t>(like, num_rows, &target.codes)
                                : packed_codes<std::uint8_t>(like, num_rows, &target.codes);
  nb::dict result;
  std::int64_t *sorted = nullptr, *order = nullptr;
  if (like.num_lists > 0) {
    auto offsets = new_array<std::int64_t, 1>({static_cast<std::size_t>(like.num_lists) + 1});
    auto sorted_ids = new_array<std::int64_t, 1>({count});
    auto order_of_ids = new_array<std::int64_t, 1>({count});
    target.list_offsets = offsets.data(), sorted = sorted_ids.data(), order = order_of_ids.data();
    result["list_offsets"] = offsets, result["sorted"] = sorted_ids, result["order"] = order_of_ids;
  }
  if (like.uses_norms()) {
    auto joined_norms = new_array<float, 1>({count});
    target.norms = joined_norms.data();
    result["norms"] = joined_norms;
  }
  {
    nb::gil_scoped_release release;
    poeem::write_rows(sources, rows, like, target);
    for (std::size_t i = 0; i < count; ++i) {
      places.data()[i] = firsts[static_cast<std::size_t>(rows[i].source)] + rows[i].row;
      if (sorted == nullptr) continue;
      sorted[i] = rows[static_cast<std::size_t>(by_id[i])].id;
      order[i] = by_id[i];
    }
  }
  result["ids"] = joined_ids, result["codes"] = packed, result["places"] = places;
  return result;
}

}  // namespace

void add_changes(nb::module_& m) {
  pthread_atfork(nullptr, nullptr, after_fork);
  nb::class_<Changing>(m, "Changing", "Around a change: a search that ends meanwhile waits awake for the interpreter.")
      .def(nb::init<>())
      .def("__enter__", [](Changing&) { Changing::enter(); })
      .def("__exit__", [](Changing&, const nb::args&) { Changing::exit(); },
           nb::sig("def __exit__(self, *args: object) -> None"));
  m.def("let_searches_in", &let_searches_in, "Let go of the interpreter, if a search waits for it awake.");
  nb::class_<Lookup>(m, "Lookup", "Where ids stand in an index; the arrays are borrowed.")
      .def(nb::init<std::int64_t, std::optional<Ids>, std::optional<Order>>(), "num_items"_a, nb::kw_only(),
           "sorted"_a.noconvert().none() = nb::none(), "order"_a.noconvert().none() = nb::none(),
           "sorted: rising ids [num_items], None = positions. order: their positions, None = as they stand.")
      .def("find", &find, "ids"_a.noconvert(), nb::kw_only(), "alive"_a.noconvert().none() = nb::none(),
           "Return the positions of ids, int64 [n], -1 where none is alive (a bit per item, None = all are).");
  m.def("without", &without, nb::sig("def without(segments: list[tuple[Lookup, object]], ids: list[object]) -> "
                                     "list[tuple[object, int] | None]"),
        "segments"_a, "ids"_a,
        "Return for each lookup and its bits (None = all alive) the bits without the items of all these ids, and how "
        "many fewer there are; None where it has none of them.");
  m.def("join", &join, nb::sig("def join(quantizer: Arrays, segments: list[tuple[Arrays, object]], *, ids: object, "
                               "codes: object, lists: object = None, norms: object = None) -> dict[str, object]"),
        "quantizer"_a, "segments"_a, nb::kw_only(), "ids"_a.noconvert(), "codes"_a.noconvert(),
        "lists"_a.noconvert().none() = nb::none(), "norms"_a.noconvert().none() = nb::none(),
        "Return the rows of segments that are alive (bits, None = all) and new ones in any order, as the arrays of an "
        "index: ids, packed codes, and where there are such list_offsets and norms; with lists also sorted and order "
        "for a Lookup. places: each row's among those of all segments, dead ones counted, then the new ones.");
}

}  // namespace bindings
