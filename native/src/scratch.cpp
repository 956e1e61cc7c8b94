#include "poeem/scratch.h"

#include <algorithm>
#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define POEEM_KEEPS_NO_SCRATCH
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POEEM_KEEPS_NO_SCRATCH
#endif
#endif

namespace poeem {

#ifdef POEEM_KEEPS_NO_SCRATCH

// So that every byte beyond what was asked for, and all that was given back, is watched.
void* take_scratch(std::size_t bytes) { return ::operator new(bytes, std::align_val_t{64}); }
void give_scratch(void* memory, std::size_t) noexcept { ::operator delete(memory, std::align_val_t{64}); }
void* scratch_of_helper(std::size_t, std::size_t) { return nullptr; }
LentScratch::LentScratch(void*) noexcept {}
LentScratch::~LentScratch() = default;

#else

namespace {

constexpr int kLeastBits = 6;                     // of a size: 64 bytes, a cache line
constexpr int kMostBits = 18;                     // beyond, asking is nothing beside using it
constexpr std::size_t kMostKept = std::size_t{16} << 20;  // bytes, of a thread
constexpr std::size_t kMostOfHelpers = std::size_t{48} << 20;  // of all that helped it
constexpr std::align_val_t kAlignment{64};

// Sizes are powers of two. What is free lies in a chain for each.
class Pool {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    for (Free*& first : free_)
      while (first != nullptr) {
        Free* next = first->next;
        ::operator delete(first, kAlignment);
        first = next;
      }
  }

  void* take(int bits) {
    Free*& first = free_[bits - kLeastBits];
    if (first == nullptr) return ::operator new(std::size_t{1} << bits, kAlignment);
    kept_ -= std::size_t{1} << bits;
    void* memory = first;
    first = first->next;
    return memory;
  }

  void give(void* memory, int bits) noexcept {
    if (kept_ + (std::size_t{1} << bits) > most_kept_) return ::operator delete(memory, kAlignment);
    kept_ += std::size_t{1} << bits;
    Free*& first = free_[bits - kLeastBits];
    first = ::new (memory) Free{first};
  }

  void keep_at_most(std::size_t bytes) noexcept { most_kept_ = bytes; }

 private:
  struct Free {
    Free* next;
  };
  Free* free_[kMostBits - kLeastBits + 1] = {};
  std::size_t kept_ = 0, most_kept_ = kMostKept;
};

thread_local Pool own_pool;
thread_local Pool* lent_pool = nullptr;
thread_local std::vector<std::unique_ptr<Pool>> helpers_pools;

Pool& pool() { return lent_pool != nullptr ? *lent_pool : own_pool; }

// The least power of two that holds so many bytes.
int bits_of(std::size_t bytes) {
  constexpr std::size_t kLeast = std::size_t{1} << kLeastBits;
  return bytes <= kLeast ? kLeastBits : 64 - __builtin_clzll(bytes - 1);
}

}  // namespace

void* take_scratch(std::size_t bytes) {
  const int bits = bits_of(bytes);
  return bits > kMostBits ? ::operator new(bytes, kAlignment) : pool().take(bits);
}

void give_scratch(void* memory, std::size_t bytes) noexcept {
  const int bits = bits_of(bytes);
  if (bits > kMostBits) return ::operator delete(memory, kAlignment);
  pool().give(memory, bits);
}

void* scratch_of_helper(std::size_t helper, std::size_t num_helpers) {
  while (helpers_pools.size() <= helper) helpers_pools.push_back(std::make_unique<Pool>());
  helpers_pools[helper]->keep_at_most(std::min(kMostKept, kMostOfHelpers / num_helpers));
  return helpers_pools[helper].get();
}

LentScratch::LentScratch(void* of_helper) noexcept { lent_pool = static_cast<Pool*>(of_helper); }
LentScratch::~LentScratch() { lent_pool = nullptr; }

#endif

}  // namespace poeem
