#include "threads.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <thread>

#include "../src/parallel.h"

#ifdef __linux__
#include <sched.h>
#endif

namespace {

// Whether it holds, within a time that no machine needs.
template <class Holds>
bool soon(const Holds& holds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

// Every task is run once, whichever threads there are.
bool each_task_once() {
  for (const std::int64_t num_threads : {1, 2, 3, 8, 200}) {
    std::atomic<int> times[100] = {};
    poeem::run_tasks(100, num_threads, [&](poeem::TaskCounter& tasks) {
      for (std::int64_t task = tasks.next(); task < 100; task = tasks.next()) ++times[task];
    });
    for (const std::atomic<int>& count : times)
      if (count != 1) return false;
  }
  return true;
}

// Each of several threads has a task, so that all of them are seen.
template <class Look>
bool all_threads(const Look& look) {
  constexpr int kThreads = 3;
  std::atomic<int> begun{0}, good{0};
  poeem::run_tasks(kThreads, kThreads, [&](poeem::TaskCounter& tasks) {
    if (tasks.next() >= kThreads) return;
    ++begun;
    if (soon([&] { return begun == kThreads; }) && look()) ++good;
  });
  return good == kThreads;
}

#ifdef __linux__

// A thread that was sent off its maker's processor may run wherever its maker may, before long; and the maker always, also
// where the others end as soon as they begin.
bool processors_stay_open() {
  cpu_set_t before;
  if (sched_getaffinity(0, sizeof(before), &before) != 0) return true;  // nothing is sent anywhere then
  const auto is_open = [&] {
    cpu_set_t now;
    return sched_getaffinity(0, sizeof(now), &now) == 0 && CPU_EQUAL(&now, &before);
  };
  const std::thread::id maker = std::this_thread::get_id();
  bool open = true;
  for (int call = 0; call < 200 && open; ++call)
    poeem::run_tasks(8, 8, [&](poeem::TaskCounter& tasks) {
      while (tasks.next() < 8) {}
      if (std::this_thread::get_id() == maker) open = open && is_open();
    });
  return open && all_threads([&] { return soon(is_open); }) && is_open();
}

#else

bool processors_stay_open() { return true; }

#endif

// What one thread throws reaches the caller, when the others have ended, which find no further tasks.
bool failures_arrive() {
  constexpr std::int64_t kTasks = std::int64_t{1} << 40;  // more than anybody counts through
  std::atomic<int> others{0}, stopped{0};
  try {
    poeem::run_tasks(kTasks, 3, [&](poeem::TaskCounter& tasks) {
      if (tasks.next() == 0) throw std::runtime_error("the first");
      ++others;
      if (soon([&] { return tasks.next() >= kTasks; })) ++stopped;
    });
  } catch (const std::runtime_error&) {
    return stopped == others;
  }
  return false;
}

}  // namespace

bool threads_behave() {
  if (!processors_stay_open()) return std::printf("threads: one may not run where its maker may\n"), false;
  if (!each_task_once()) return std::printf("threads: a task was run twice, or never\n"), false;
  if (!failures_arrive()) return std::printf("threads: a failure does not arrive\n"), false;
  return true;
}
