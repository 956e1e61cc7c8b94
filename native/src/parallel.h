// Threads of one call: started for it, sharing its tasks, joined before it returns.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace poeem {

class TaskCounter {
 public:
  explicit TaskCounter(std::int64_t num_tasks) : num_tasks_(num_tasks) {}
  // The next task that nobody has; num_tasks or more when there is none.
  std::int64_t next() { return next_.fetch_add(1, std::memory_order_relaxed); }
  void stop() { next_.store(num_tasks_, std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> next_{0};
  std::int64_t num_tasks_;
};

// Run `work` on up to num_threads threads, this one included, never more than there are tasks; rethrow the last
// failure of any. Where the system gives fewer threads, those that there are share the work.
void run_tasks(std::int64_t num_tasks, std::int64_t num_threads,
               const std::function<void(TaskCounter&)>& work);

}  // namespace poeem
