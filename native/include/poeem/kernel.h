// Kernels: what depends on the instruction set, one file each under src/, chosen once per call.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace poeem {

struct Arithmetic;    // src/arithmetic/arithmetic.h
struct BoundTask;     // src/kernels/bounds.h
struct ByteLists;     // list_bounds.h
struct ListBoundsTask;
struct NearestTile;   // src/nearest/tile.h
struct ProductTask;   // src/tables.h
struct ResidualTile;  // src/residual/tile.h

// masks[u - begin], bit i: whether item i of unit u may reach the threshold.
using BoundFunction = void (*)(const BoundTask& task, std::uint64_t* masks);

// The same of two queries over the same whole blocks of codes: a and b differ in nothing but tables and thresholds.
using BoundTwoFunction = void (*)(const BoundTask& a, const BoundTask& b, std::uint64_t* masks_a,
                                  std::uint64_t* masks_b);

// sums: [end - begin, 64], of 8-bit codes and all their bits, none above 65535; masks as above, of sums within the limit. No norms.
using SumFunction = void (*)(const BoundTask& task, std::uint16_t* sums, std::uint64_t* masks);

// From lists and a query in bytes to task.low and task.high.
using ListBoundsFunction = void (*)(const ByteLists& lists, const ListBoundsTask& task);

// max of |row[j]| + bias[j] over j < count.
using LargestFunction = float (*)(const float* row, const float* bias, std::int64_t count);

struct Kernel {
  const char* name;            // what POEEM_KERNEL says
  const char* description;
  const char* required_cpu;    // for people
  bool (*supported)();         // whether this machine can run it
  BoundFunction bound_bytes[3];         // 8-bit codes, by each Look of bounds.h; null: every item is scored in float
  BoundFunction bound_nibbles;          // 4-bit codes; null: likewise
  BoundTwoFunction bound_bytes_of_two[3];  // null: two queries at once would be no faster
  SumFunction sum_bytes;                // null: the first items are scored in float
  ListBoundsFunction list_bounds;       // null: all lists are looked at in float
  const NearestTile* nearest;
  const ResidualTile* residual;
  const Arithmetic* arithmetic;
  LargestFunction largest;
  void (*products)(const ProductTask& task);  // the same bits from every kernel
};

// All kernels that were compiled in, the most wanted first; the last one runs everywhere.
const std::vector<Kernel>& all_kernels();

struct CpuFeature {
  const char* name;
  bool present;
};

// What kernels ask of this machine, and whether it has it.
std::vector<CpuFeature> cpu_features();

// The kernel named `name`, or the first supported one if it is empty. Throws kConfig.
const Kernel& choose_kernel(const std::string& name);

}  // namespace poeem
