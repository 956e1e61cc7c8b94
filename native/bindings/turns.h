// Who has the interpreter. A thread that waits for it sleeps, and waking takes longer than most of what it waits for. So,
// while a live index is being changed, a search that comes back to a held interpreter waits awake for a moment, and a
// change lets it in between its longer parts.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

#include <nanobind/nanobind.h>

namespace bindings {

using Clock = std::chrono::steady_clock;

inline std::atomic<int> changes_going_on{0};
inline std::atomic<Clock::rep> last_change{Clock::duration::min().count() / 2};  // when it ended
inline std::atomic<int> searches_waiting{0};                                     // awake, for the interpreter

// Whether some thread holds the interpreter. From Python 3.12 on nobody outside can see that: then as if it were free.
inline bool interpreter_is_held() {
#if PY_VERSION_HEX < 0x030C0000
  return _PyThreadState_UncheckedGet() != nullptr;
#else
  return false;
#endif
}

// Tell the processor that this is a loop that waits.
inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Look again and again until `done`, for so long at most. The thread does not yield: the system would let others run for
// far longer than that.
template <class Done>
void wait_awake(const Done& done) {
  constexpr std::chrono::microseconds kLongest{100};
  const Clock::time_point end = Clock::now() + kLongest;
  while (!done() && Clock::now() < end)
    for (int i = 0; i < 8; ++i) pause();
}

// Changes come in rows: whoever makes them has the interpreter in between, too.
inline bool is_being_changed() {
  constexpr std::chrono::milliseconds kSoon{20};
  if (changes_going_on.load(std::memory_order_relaxed) > 0) return true;
  const Clock::duration since = Clock::now().time_since_epoch() - Clock::duration(last_change.load());
  return since < kSoon;
}

// Let go of the interpreter for a search.
class ReleasedToSearch {
 public:
  ReleasedToSearch() : release_(std::in_place) {}
  ~ReleasedToSearch() {
    const bool waits = interpreter_is_held() && is_being_changed();
    if (waits) {
      ++searches_waiting;
      wait_awake([] { return !interpreter_is_held(); });
    }
    release_.reset();
    if (waits) --searches_waiting;
  }
  ReleasedToSearch(const ReleasedToSearch&) = delete;
  ReleasedToSearch& operator=(const ReleasedToSearch&) = delete;

 private:
  std::optional<nanobind::gil_scoped_release> release_;
};

// Python's `with` around a change.
class Changing {
 public:
  static void enter() { ++changes_going_on; }
  static void exit() {
    last_change = Clock::now().time_since_epoch().count();
    --changes_going_on;
  }
};

// Let go of the interpreter if a search waits for it.
inline void let_searches_in() {
  if (searches_waiting.load() == 0) return;
  const nanobind::gil_scoped_release release;
  wait_awake([] { return searches_waiting.load() == 0; });
}

// Of the threads counted none is left in a child process.
inline void after_fork() { changes_going_on = searches_waiting = 0; }

}  // namespace bindings
