#include "parallel.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "poeem/scratch.h"

#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#endif

namespace poeem {
namespace {

#ifdef __linux__

// Linux may queue a new thread behind its maker on the same processor, mostly so where that one has just been woken, and
// leave it there for milliseconds though others are idle. Sent away from there once, it may run anywhere again.
class Elsewhere {
 public:
  Elsewhere() {
    const int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof(all_), &all_) != 0) return;
    others_ = all_;
    CPU_CLR(static_cast<unsigned>(here), &others_);
    known_ = CPU_COUNT(&others_) > 0;
  }

  // Where the system refuses, it stays where it is.
  void send(std::thread& thread) const {
    if (known_ && pthread_setaffinity_np(thread.native_handle(), sizeof(others_), &others_) == 0)
      pthread_setaffinity_np(thread.native_handle(), sizeof(all_), &all_);
  }

 private:
  cpu_set_t all_, others_;
  bool known_ = false;
};

#else

class Elsewhere {
 public:
  void send(std::thread&) const {}
};

#endif

}  // namespace

void run_tasks(std::int64_t num_tasks, std::int64_t num_threads,
               const std::function<void(TaskCounter&)>& work) {
  TaskCounter tasks(num_tasks);
  const std::int64_t num_helpers = std::min(num_threads, num_tasks) - 1;
  if (num_helpers < 1) return work(tasks);  // and the system is asked for nothing
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto guarded = [&]() {
    try {
      work(tasks);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(failure_mutex);
      failure = std::current_exception();
      tasks.stop();  // the others stop at their next task
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(num_helpers));
  std::atomic<std::int64_t> num_sent{0};
  try {
    const Elsewhere elsewhere;
    for (std::int64_t i = 0; i < num_helpers; ++i) {
      void* scratch = scratch_of_helper(static_cast<std::size_t>(i), static_cast<std::size_t>(num_helpers));
      elsewhere.send(threads.emplace_back([&guarded, &num_sent, i, scratch] {
        {
          const LentScratch lent(scratch);
          guarded();
        }
        // To send a thread that has ended somewhere would send its maker there: the system knows both as number 0 then.
        while (num_sent <= i) std::this_thread::yield();
      }));
      ++num_sent;
    }
  } catch (const std::exception&) {
    // No more threads to be had, or no memory for them.
  }
  guarded();
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace poeem
