// Bytes of codes per second and cycles per 64 codes of each kernel, with table building and selection left out, beside the
// bounds of this machine: reading alone, and the permutes alone. Prints JSON; rates.py builds and runs it.
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../../native/src/kernels/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

using poeem::BoundTask;

// CPU time of this thread, which neighbours on the machine do not count into.
double now() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Seconds of a run, the least of some; each is of `at_once` runs, or short ones would be as long as asking the time.
double best_of(int repetitions, const std::function<void()>& run, int at_once = 1) {
  double best = 1e9;
  for (int i = 0; i < repetitions; ++i) {
    const double start = now();
    for (int j = 0; j < at_once; ++j) run();
    best = std::min(best, (now() - start) / at_once);
  }
  return best;
}

// Seconds of a cycle. A chain of multiplications takes three each on x86-64; additions of constants will not do, as some
// processors (Golden Cove) add up several of them before they are executed.
double cycle() {
  constexpr int kSteps = 1'000'000;
#if defined(__x86_64__)
  constexpr int kLatency = 3;
#else
  constexpr int kLatency = 1;
#endif
  return best_of(20, [] {
           std::uint64_t x = 1;
           for (int i = 0; i < kSteps; i += 4)
#if defined(__x86_64__)
             asm volatile("imul %0, %0\nimul %0, %0\nimul %0, %0\nimul %0, %0" : "+r"(x));
#else
             asm volatile("add %0, %0, #1\nadd %0, %0, #1\nadd %0, %0, #1\nadd %0, %0, #1" : "+r"(x));
#endif
         }) / kSteps / kLatency;
}

#if defined(__x86_64__)
// Fetching ahead, as kernels do on Intel, or leaving it to the hardware.
template <bool kAhead>
__attribute__((target("avx512f"))) void read_all(const std::uint8_t* bytes, std::int64_t size) {
  __m512i all[4] = {};
  for (std::int64_t i = 0; i < size; i += 256) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      const std::uint8_t* line = bytes + i + 64 * u;
      if (kAhead) _mm_prefetch(reinterpret_cast<const char*>(line + 8192), _MM_HINT_T0);  // beyond the end it does nothing
      all[u] = _mm512_or_si512(all[u], _mm512_loadu_si512(line));
    }
  }
#pragma GCC unroll 4
  for (int u = 0; u < 4; ++u) asm volatile("" ::"v"(all[u]));
}

// Sixteen independent permutes of 128 bytes each.
__attribute__((target("avx512f,avx512bw,avx512vbmi"))) void permute(int count) {
  for (int i = 0; i < count; i += 8)
    asm volatile(
        "vpermi2b %%zmm0, %%zmm1, %%zmm16\nvpermi2b %%zmm0, %%zmm1, %%zmm17\n"
        "vpermi2b %%zmm0, %%zmm1, %%zmm18\nvpermi2b %%zmm0, %%zmm1, %%zmm19\n"
        "vpermi2b %%zmm0, %%zmm1, %%zmm20\nvpermi2b %%zmm0, %%zmm1, %%zmm21\n"
        "vpermi2b %%zmm0, %%zmm1, %%zmm22\nvpermi2b %%zmm0, %%zmm1, %%zmm23\n" ::
            : "zmm16", "zmm17", "zmm18", "zmm19", "zmm20", "zmm21", "zmm22", "zmm23");
}

// What a look-up is made of, without its loads: two permutes, which half is right, a blend, an addition.
__attribute__((target("avx512f,avx512bw,avx512vbmi"))) void look_up(int count) {
  __m512i table[4], codes[4], sums[4];
  for (int i = 0; i < 4; ++i) table[i] = codes[i] = sums[i] = _mm512_set1_epi8(static_cast<char>(i * 85 + 1));
  for (int i = 0; i < count; i += 4)
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      __m512i code = codes[u];
      asm volatile("" : "+v"(code));
      const __m512i low = _mm512_permutex2var_epi8(table[0], code, table[1]);
      const __m512i high = _mm512_permutex2var_epi8(table[2], code, table[3]);
      sums[u] = _mm512_adds_epu8(sums[u], _mm512_mask_blend_epi8(_mm512_movepi8_mask(code), low, high));
    }
#pragma GCC unroll 4
  for (int u = 0; u < 4; ++u) asm volatile("" ::"v"(sums[u]));
}
#endif

void print_rate(const char* name, double seconds, double second_of_cycle, std::int64_t size, int columns) {
  const double cycles = seconds / second_of_cycle / static_cast<double>(size);
  std::printf(", \"%s\": {\"gb_per_s\": %.1f, \"cycles_per_64_codes\": %.2f, \"cycles_per_item\": %.2f}",
              name, 1e-9 * static_cast<double>(size) / seconds, cycles * 64, cycles * columns);
}

}  // namespace

int main() {
  const double second_of_cycle = cycle();
  std::printf("{\"ghz\": %.3f", 1e-9 / second_of_cycle);
#if defined(__x86_64__)
  const bool wide = __builtin_cpu_supports("avx512f");
  if (__builtin_cpu_supports("avx512vbmi")) {
    constexpr int kCount = 800'000;
    std::printf(",\n \"cycles_per_permute_of_128_bytes\": %.3f",
                best_of(20, [] { permute(kCount); }) / kCount / second_of_cycle);
    std::printf(",\n \"cycles_per_look_up_in_registers\": %.3f",
                best_of(20, [] { look_up(kCount); }) / kCount / second_of_cycle);
  }
#endif
  std::printf(",\n \"rates\": [");
  bool first = true;
  for (int columns : {8, 16, 32}) {
    for (std::int64_t size : {16L << 10, 256L << 10, 4L << 20, 16L << 20, 64L << 20}) {
      const std::int64_t blocks = size / (columns * poeem::kColumnBytes);
      std::unique_ptr<std::uint8_t, decltype(&std::free)> codes(
          static_cast<std::uint8_t*>(std::aligned_alloc(4096, static_cast<std::size_t>(size))),
          std::free);
      std::uint64_t state = 1;
      for (std::int64_t i = 0; i < size; ++i)
        codes.get()[i] = static_cast<std::uint8_t>((state = state * 6364136223846793005U + 1) >> 56);
      std::unique_ptr<std::uint8_t, decltype(&std::free)> table(
          static_cast<std::uint8_t*>(std::aligned_alloc(64, static_cast<std::size_t>(columns) * 512)),
          std::free);
      std::copy(codes.get(), codes.get() + columns * 512, table.get());
      std::vector<std::uint64_t> masks(static_cast<std::size_t>(8 * blocks));
      BoundTask task{};
      task.codes = codes.get();
      task.end = task.last = 4 * blocks;
      task.num_columns = columns;
      task.table = table.get();
      task.group_columns = 16;  // as bound_table.cpp has it
      task.limit = 0;
      task.fetch = poeem::best_fetch(false);
      const int repetitions = static_cast<int>(std::clamp<std::int64_t>((256L << 20) / size, 5, 200));
      const int at_once = static_cast<int>(std::max<std::int64_t>(1, (256L << 10) / size));
      const auto seconds = [&](const std::function<void()>& run) { return best_of(repetitions, run, at_once); };
      std::printf("%s\n  {\"bytes_of_item\": %d, \"kib\": %ld", first ? "" : ",", columns,
                  static_cast<long>(size >> 10));
      first = false;
#if defined(__x86_64__)
      if (wide)
        std::printf(", \"reading_gb_per_s\": %.1f",
                    1e-9 * static_cast<double>(size) /
                        std::min(seconds([&] { read_all<false>(codes.get(), size); }),
                                 seconds([&] { read_all<true>(codes.get(), size); })));
#endif
      for (const poeem::Kernel& kernel : poeem::all_kernels()) {
        if (!kernel.supported() || kernel.bound_bytes[0] == nullptr) continue;
        BoundTask other = task;
        for (int look = 0; look < poeem::kNumLooks; ++look) {
          const std::string suffix = look == poeem::kCodewords ? "" : look == poeem::kPairs ? ", pairs" : ", quads";
          const double one = seconds([&] { kernel.bound_bytes[look](task, masks.data()); });
          print_rate((kernel.name + suffix).c_str(), one, second_of_cycle, size, columns);
          other.table = table.get() + columns * poeem::num_entries(look);
          const poeem::BoundTwoFunction bound_two = kernel.bound_bytes_of_two[look];
          if (bound_two == nullptr) continue;
          const double both = seconds([&] { bound_two(task, other, masks.data(), masks.data() + 4 * blocks); });
          print_rate(("two queries" + suffix).c_str(), both / 2, second_of_cycle, size, columns);
        }
        // Of 4-bit codes, two to a byte: 64 bytes are 128 codes, of 64 items.
        print_rate((std::string(kernel.name) + ", 4-bit codes").c_str(),
                   seconds([&] { kernel.bound_nibbles(task, masks.data()); }), second_of_cycle, size, columns);
      }
      std::printf("}");
    }
  }
  std::printf("\n ]}\n");
  return 0;
}
