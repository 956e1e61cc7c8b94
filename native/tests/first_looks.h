// Of the executable kernels_agree, a file of its own.
#pragma once

#include <random>

// False, and said, where a kernel differs from a plain loop.
bool first_looks_agree(std::mt19937& random);
