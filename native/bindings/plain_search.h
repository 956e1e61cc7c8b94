// The short way into a search, for calls whose arguments are plainly right: checks in Python take longer than a query
// that visits few lists.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "arrays.h"
#include "poeem/search.h"
#include "turns.h"

namespace bindings {

namespace nb = nanobind;

constexpr const char* kKernelVariable = "POEEM_KERNEL";

// A contiguous array of float32 that is looked at and let go.
class FloatBuffer {
 public:
  explicit FloatBuffer(nb::handle array) {
    has_buffer_ = PyObject_GetBuffer(array.ptr(), &buffer_, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) == 0;
    if (!has_buffer_) {
      PyErr_Clear();
      return;
    }
    is_floats_ = buffer_.format != nullptr && std::strcmp(buffer_.format, "f") == 0 &&
                 reinterpret_cast<std::uintptr_t>(buffer_.buf) % alignof(float) == 0;
  }
  ~FloatBuffer() {
    if (has_buffer_) PyBuffer_Release(&buffer_);
  }
  FloatBuffer(const FloatBuffer&) = delete;
  FloatBuffer& operator=(const FloatBuffer&) = delete;

  bool is_floats() const { return is_floats_; }
  int num_axes() const { return buffer_.ndim; }
  std::int64_t length(int axis) const { return buffer_.shape[axis]; }
  std::int64_t size() const { return buffer_.len / static_cast<std::int64_t>(sizeof(float)); }
  const float* data() const { return static_cast<const float*>(buffer_.buf); }
  bool all_finite() const {
    constexpr std::uint32_t kExponent = 0x7F800000;  // all of its bits are set in NaN and infinity, and only there
    std::uint32_t bad = 0;
    for (std::int64_t i = 0; i < size(); ++i) {
      std::uint32_t bits;
      std::memcpy(&bits, data() + i, sizeof bits);
      bad |= (bits & kExponent) == kExponent ? 1U : 0U;
    }
    return bad == 0;
  }

 private:
  Py_buffer buffer_{};
  bool has_buffer_ = false, is_floats_ = false;
};

// An int itself (not a bool, nor NumPy's) from low to high, else -1.
inline std::int64_t plain_count(nb::handle value, std::int64_t low, std::int64_t high) {
  if (!PyLong_CheckExact(value.ptr())) return -1;
  int overflow = 0;
  const std::int64_t count = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
  return overflow != 0 || count < low || count > high ? -1 : count;
}

// What a call needs of NumPy, looked up once: finding it takes longer than using it. Never let go: modules may be gone at the end.
struct NumPy {
  NumPy() {
    const nb::module_ numpy = nb::module_::import_("numpy");
    empty = nb::object(numpy.attr("empty")).release();
    int64 = numpy.attr("dtype")("int64").release();
    float32 = numpy.attr("dtype")("float32").release();
  }
  static const NumPy& get() {
    // Not initialized in place: the import may let go of the interpreter, and another thread wait with it in its hands.
    static const NumPy* numpy = nullptr;
    if (numpy == nullptr) numpy = new NumPy;
    return *numpy;
  }
  nb::object new_array(nb::handle shape, nb::handle dtype) const {
    PyObject* arguments[] = {shape.ptr(), dtype.ptr()};
    PyObject* array = PyObject_Vectorcall(empty.ptr(), arguments, 2, nullptr);
    if (array == nullptr) throw nb::python_error();
    return nb::steal(array);
  }
  nb::handle empty, int64, float32;
};

template <class T>
T* data_of(nb::handle array) {
  Py_buffer buffer;
  if (PyObject_GetBuffer(array.ptr(), &buffer, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) != 0) throw nb::python_error();
  T* data = static_cast<T*>(buffer.buf);
  PyBuffer_Release(&buffer);  // the array lives on and is nobody else's yet
  return data;
}

// Whether a signal's handler has raised, as that of Ctrl-C does. Handlers run in the main thread alone.
inline bool python_is_interrupted() {
  const nb::gil_scoped_acquire acquire;
  return PyErr_CheckSignals() != 0;
}

// Search without the interpreter, until done or a handler raises.
template <class Search>
void released_to_search(poeem::SearchRequest& request, const Search& search) {
  request.is_interrupted = python_is_interrupted;
  try {
    const ReleasedToSearch released;
    search();
  } catch (const poeem::Interrupted&) {
    throw nb::python_error();
  }
}

// None where an argument is not plainly right. num_items: there are to find. search(request, ids, scores): does it.
template <class Search>
nb::object search_plainly(const poeem::IndexView& view, std::int64_t num_items, nb::handle queries, nb::handle k,
                          nb::handle num_probes, nb::handle num_threads, const Search& search) {
  poeem::SearchRequest request;
  request.k = plain_count(k, 1, num_items);
  request.num_probes = num_probes.is_none() ? 0 : plain_count(num_probes, 1, INT64_MAX);
  request.num_threads = plain_count(num_threads, 1, 1024);
  if (request.k < 0 || request.num_probes < 0 || request.num_threads < 0) return nb::none();
  const FloatBuffer vectors(queries);
  if (!vectors.is_floats() || vectors.num_axes() < 1 || vectors.num_axes() > 3 || vectors.size() == 0 ||
      vectors.length(vectors.num_axes() - 1) != view.dim || !vectors.all_finite())
    return nb::none();
  request.queries = vectors.data();
  request.num_queries = vectors.num_axes() == 1 ? 1 : vectors.length(0);
  request.num_heads = vectors.num_axes() == 3 ? vectors.length(1) : 1;
  if (const char* kernel = std::getenv(kKernelVariable)) request.kernel = kernel;
  const NumPy& numpy = NumPy::get();
  const nb::object shape = nb::make_tuple(request.num_queries, request.k);
  const nb::object ids = numpy.new_array(shape, numpy.int64);
  const nb::object scores = numpy.new_array(shape, numpy.float32);
  auto* to_ids = data_of<std::int64_t>(ids);
  auto* to_scores = data_of<float>(scores);
  released_to_search(request, [&] { search(request, to_ids, to_scores); });
  return nb::make_tuple(ids, scores);
}

inline nb::object search_plain(const Arrays& arrays, nb::handle queries, nb::handle k, nb::handle num_probes,
                               nb::handle num_threads) {
  const poeem::IndexView& view = arrays.view();
  return search_plainly(view, view.num_items, queries, k, num_probes, num_threads,
                        [&](const poeem::SearchRequest& request, std::int64_t* ids, float* scores) {
                          poeem::search(view, request, ids, scores);
                        });
}

}  // namespace bindings
