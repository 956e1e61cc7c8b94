#include "parallel.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace poeem {

void run_tasks(std::int64_t num_tasks, std::int64_t num_threads,
               const std::function<void(TaskCounter&)>& work) {
  TaskCounter tasks(num_tasks);
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
  const std::int64_t num_helpers = std::max<std::int64_t>(std::min(num_threads, num_tasks) - 1, 0);
  threads.reserve(static_cast<std::size_t>(num_helpers));
  try {
    for (std::int64_t i = 0; i < num_helpers; ++i) threads.emplace_back(guarded);
  } catch (const std::system_error&) {
    // No more threads to be had.
  }
  guarded();
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace poeem
