// Errors of the core. Each code maps to one Python class of poeem.errors (bindings/module.cpp).
#pragma once

#include <stdexcept>
#include <string>

namespace poeem {

enum class ErrorCode {
  kShape,   // ShapeError: arrays that do not fit together
  kConfig,  // ConfigError: a setting out of its range, or an unknown kernel
  kCorrupt  // CorruptIndexError: an invariant of the index does not hold
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace poeem
