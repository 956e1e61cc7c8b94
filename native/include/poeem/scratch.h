// Working memory of a search, which the next one of the same thread finds again: asking for it anew would take as long as a
// tenth of a query that visits one list. Threads that help with a call end with it, so theirs is kept by the thread that they
// help: new memory would be cleared page by page, which took a third of a batch over a small catalogue. Nothing else is kept
// from call to call.
#pragma once

#include <cstddef>
#include <new>
#include <utility>
#include <vector>

namespace poeem {

// bytes: the same for both. Starts with a cache line.
void* take_scratch(std::size_t bytes);
void give_scratch(void* memory, std::size_t bytes) noexcept;

// What helper number i of a call takes its memory from; for `LentScratch`. Kept by the calling thread, whose call it is.
void* scratch_of_helper(std::size_t helper, std::size_t num_helpers);

// As long as it lives, this thread takes its memory from there.
class LentScratch {
 public:
  explicit LentScratch(void* of_helper) noexcept;
  ~LentScratch();
  LentScratch(const LentScratch&) = delete;
  LentScratch& operator=(const LentScratch&) = delete;
};

template <class T>
struct ScratchAllocator {
  using value_type = T;
  ScratchAllocator() = default;
  template <class U>
  ScratchAllocator(const ScratchAllocator<U>&) noexcept {}  // NOLINT: as all allocators

  T* allocate(std::size_t count) {
    if (count > static_cast<std::size_t>(-1) / 2 / sizeof(T)) throw std::bad_alloc();
    return static_cast<T*>(take_scratch(count * sizeof(T)));
  }
  void deallocate(T* memory, std::size_t count) noexcept { give_scratch(memory, count * sizeof(T)); }

  // New numbers are not set to 0: whoever asks for room fills it.
  template <class U>
  void construct(U* place) {
    ::new (static_cast<void*>(place)) U;
  }
  template <class U, class... Arguments>
  void construct(U* place, Arguments&&... arguments) {
    ::new (static_cast<void*>(place)) U(std::forward<Arguments>(arguments)...);
  }

  friend bool operator==(const ScratchAllocator&, const ScratchAllocator&) { return true; }
  friend bool operator!=(const ScratchAllocator&, const ScratchAllocator&) { return false; }
};

template <class T>
using ScratchVector = std::vector<T, ScratchAllocator<T>>;

}  // namespace poeem
