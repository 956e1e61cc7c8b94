// Of the executable kernels_agree, a file of its own.
#pragma once

#include <random>

// False, and said, where a kernel loses results by tables that are hard on 8-bit bounds.
bool hard_tables_agree(std::mt19937& random);
