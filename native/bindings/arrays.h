// Arrays of an index as the bindings see them, checked: shared by the files of this folder.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>

#include <cstdint>
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "poeem/list_bounds.h"
#include "poeem/error.h"
#include "poeem/index_view.h"
#include "poeem/panels.h"
#include "poeem/validate.h"

namespace bindings {

namespace nb = nanobind;
using poeem::Error;
using poeem::ErrorCode;

template <class T, std::size_t N>
using Input = nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
using Codes = std::variant<Input<std::uint8_t, 3>, Input<std::uint16_t, 3>>;
using Ids = std::variant<Input<std::uint32_t, 1>, Input<std::int64_t, 1>>;
template <class T, std::size_t N>
using Output = nb::ndarray<nb::numpy, T, nb::ndim<N>>;

inline void require(bool condition, const char* message) {
  if (!condition) throw Error(ErrorCode::kShape, message);
}

// NumPy has views that start in the middle of a number.
template <class... Types>
void require_aligned(const nb::ndarray<Types...>& array) {
  require(reinterpret_cast<std::uintptr_t>(array.data()) % array.itemsize() == 0,
          "an array starts in the middle of a number");
}

template <class... Arrays>
void require_aligned(const std::variant<Arrays...>& array) {
  std::visit([](const auto& one) { require_aligned(one); }, array);
}

template <class Array>
void require_aligned(const std::optional<Array>& array) {
  if (array) require_aligned(*array);
}

inline poeem::Metric metric_of(const std::string& name) {
  if (name == "ip") return poeem::Metric::kInnerProduct;
  if (name == "l2") return poeem::Metric::kL2;
  if (name == "cosine") return poeem::Metric::kCosine;
  throw Error(ErrorCode::kConfig, "metric: got '" + name + "', wanted one of ip, l2, cosine");
}

inline bool is_full_width(const std::string& family) {
  if (family == "product") return false;
  if (family == "residual") return true;
  throw Error(ErrorCode::kConfig, "family: got '" + family + "', wanted one of product, residual");
}

template <class T, std::size_t N>
Output<T, N> new_array(std::initializer_list<std::size_t> shape) {
  std::size_t size = 1;
  for (std::size_t length : shape) {
    if (length != 0 && size > PTRDIFF_MAX / sizeof(T) / length) throw std::bad_alloc();
    size *= length;
  }
  std::unique_ptr<T[]> data(new T[size]);
  T* pointer = data.get();
  nb::capsule owner(pointer, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  data.release();
  return Output<T, N>(pointer, shape, owner);
}

// An index's arrays, borrowed: the references keep them alive, no array of items is copied.
class Arrays {
 public:
  Arrays(const std::string& metric, const std::string& family, std::int64_t num_items,
         int code_bits, Codes codes, Input<float, 3> codebooks,
         std::optional<Input<float, 2>> rotation, std::optional<Input<float, 2>> centroids,
         std::optional<Input<float, 1>> list_norms,
         std::optional<Input<std::int64_t, 1>> list_offsets, std::optional<Ids> ids,
         std::optional<Input<float, 1>> norms)
      : codes_(codes), codebooks_(codebooks), rotation_(rotation), centroids_(centroids),
        list_norms_(list_norms), list_offsets_(list_offsets), ids_(ids), norms_(norms) {
    require_aligned(codes_), require_aligned(codebooks_), require_aligned(rotation_);
    require_aligned(centroids_), require_aligned(list_norms_), require_aligned(list_offsets_);
    require_aligned(ids_), require_aligned(norms_);
    view_.metric = metric_of(metric);
    view_.full_width = is_full_width(family);
    view_.num_items = num_items;
    set_codes(code_bits);
    set_rotation_and_lists();
    set_items();
    transpose_parts();
  }

  // Other items of the same quantizer, whose arrays are shared: `quantizer` must live as long.
  Arrays(const Arrays& quantizer, std::int64_t num_items, Codes codes,
         std::optional<Input<std::int64_t, 1>> list_offsets, std::optional<Ids> ids,
         std::optional<Input<float, 1>> norms)
      : codes_(codes), codebooks_(quantizer.codebooks_), list_offsets_(list_offsets), ids_(ids),
        norms_(norms), view_(quantizer.view_) {
    require_aligned(codes_), require_aligned(list_offsets_), require_aligned(ids_), require_aligned(norms_);
    view_.num_items = num_items;
    set_codes(static_cast<int>(view_.width));
    require((view_.num_lists > 0) == list_offsets_.has_value(), "list_offsets: wanted iff there are lists");
    if (list_offsets_)
      require(static_cast<std::int64_t>(list_offsets_->shape(0)) == view_.num_lists + 1,
              "list_offsets: not [num_lists + 1]");
    if (list_offsets_) copy_offsets();
    view_.ids32 = nullptr;
    view_.ids64 = nullptr;
    view_.norms = nullptr;
    set_items();
  }

  const poeem::IndexView& view() const { return view_; }

 private:
  void set_codes(int code_bits) {
    const auto [blocks, columns, items, element_bytes, data] = std::visit(
        [](const auto& codes) {
          return std::tuple<std::size_t, std::size_t, std::size_t, std::int64_t, const void*>(
              codes.shape(0), codes.shape(1), codes.shape(2), codes.itemsize(), codes.data());
        },
        codes_);
    view_.num_subspaces = static_cast<std::int64_t>(codebooks_.shape(0));
    view_.num_codewords = static_cast<std::int64_t>(codebooks_.shape(1));
    view_.sub_dim = static_cast<std::int64_t>(codebooks_.shape(2));
    require(codebooks_.size() > 0, "codebooks: empty");  // so that their product is one of what exists
    view_.dim = view_.full_width ? view_.sub_dim : view_.num_subspaces * view_.sub_dim;
    view_.width = static_cast<poeem::CodeWidth>(code_bits);
    if (centroids_) view_.num_lists = static_cast<std::int64_t>(centroids_->shape(0));
    poeem::check_counts(view_);
    require(element_bytes == (code_bits == 16 ? 2 : 1), "codes: uint16 goes with 16 bits only");
    require(static_cast<std::int64_t>(blocks) == view_.num_blocks() &&
                static_cast<std::int64_t>(columns) == view_.columns() &&
                static_cast<std::int64_t>(items) == poeem::kBlockItems,
            "codes: not [num_blocks, columns, 256]");
    view_.codes = data;
    view_.codebooks = codebooks_.data();
  }

  void set_rotation_and_lists() {
    const auto dim = static_cast<std::size_t>(view_.dim);
    if (rotation_) {
      require(rotation_->shape(0) == dim && rotation_->shape(1) == dim, "rotation: not [dim, dim]");
      view_.rotation = rotation_->data();
    }
    require(centroids_.has_value() == list_offsets_.has_value(),
            "centroids and list_offsets: wanted both or none");
    if (!centroids_) return;
    const std::size_t num_lists = centroids_->shape(0);
    require(num_lists > 0 && centroids_->shape(1) == dim, "centroids: not [num_lists, dim]");
    require(list_offsets_->shape(0) == num_lists + 1, "list_offsets: not [num_lists + 1]");
    view_.centroids = centroids_->data();
    copy_offsets();
    if (view_.metric == poeem::Metric::kInnerProduct) return;
    require(list_norms_ && list_norms_->shape(0) == num_lists, "list_norms: not [num_lists]");
    view_.list_norms = list_norms_->data();
  }

  // Offsets are followed as pointers, so they are checked, and copied: a file may change while it is mapped.
  void copy_offsets() {
    offsets_.assign(list_offsets_->data(), list_offsets_->data() + list_offsets_->size());
    view_.list_offsets = offsets_.data();
    poeem::check_offsets(view_);
  }

  void set_items() {
    const auto num_items = static_cast<std::size_t>(view_.num_items);
    if (ids_) {
      if (const auto* narrow = std::get_if<0>(&*ids_)) {
        require(narrow->shape(0) == num_items, "ids: not [num_items]");
        view_.ids32 = narrow->data();
      } else {
        const auto& wide = std::get<1>(*ids_);
        require(wide.shape(0) == num_items, "ids: not [num_items]");
        view_.ids64 = wide.data();
      }
    }
    if (norms_) {
      require(norms_->shape(0) == num_items, "norms: not [num_items]");
      view_.norms = norms_->data();
    }
  }

  // Small parts are kept with the other axis last too, which tables are built from several times faster.
  void transpose_parts() {
    const auto narrow = view_.width != poeem::CodeWidth::kWord;  // wide codebooks are not small
    if (narrow)
      view_.codebooks_t = panelled(codebooks_t_, view_.codebooks, view_.num_subspaces, view_.num_codewords,
                                   view_.sub_dim, view_.panel_words());
    if (rotation_) view_.rotation_t = panelled(rotation_t_, view_.rotation, 1, view_.dim, view_.dim, view_.dim);
    if (centroids_)
      view_.centroids_t =
          panelled(centroids_t_, view_.centroids, 1, view_.num_lists, view_.dim, poeem::kPanelRows);
    if (!centroids_ || view_.dim > poeem::kMostByteDim) return;
    packed_lists_.pack(view_.centroids, view_.num_lists, view_.dim);
    view_.byte_lists = &packed_lists_.lists();
  }

  static const float* panelled(std::vector<float>& to, const float* from, std::int64_t count, std::int64_t rows,
                               std::int64_t columns, std::int64_t panel) {
    const std::int64_t size = rows * columns;
    to.resize(static_cast<std::size_t>(count * size));
    for (std::int64_t i = 0; i < count; ++i)
      poeem::put_in_panels(from + i * size, rows, columns, panel, to.data() + i * size);
    return to.data();
  }

  std::vector<float> rotation_t_, codebooks_t_, centroids_t_;
  poeem::PackedLists packed_lists_;
  std::vector<std::int64_t> offsets_;
  Codes codes_;
  Input<float, 3> codebooks_;
  std::optional<Input<float, 2>> rotation_;
  std::optional<Input<float, 2>> centroids_;
  std::optional<Input<float, 1>> list_norms_;
  std::optional<Input<std::int64_t, 1>> list_offsets_;
  std::optional<Ids> ids_;
  std::optional<Input<float, 1>> norms_;
  poeem::IndexView view_;
};

using Bits = Input<std::uint64_t, 1>;

// Lookups, and rows that are joined: changes.cpp.
void add_changes(nb::module_& m);

}  // namespace bindings
