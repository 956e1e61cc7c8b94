// Part of kernels_agree.cpp.
#pragma once

#include <random>

// Whether all kernels find the same codes; says which did not.
bool encoders_agree(std::mt19937& random);
