// Part of the binding. TensorFlow 2.21 logs through absl, and only its Python package applies TF_CPP_MIN_LOG_LEVEL to that;
// here it is applied as soon as the libraries are loaded (mute.cc covers the moment before).
#include <cstdlib>

#include "absl/base/log_severity.h"
#include "absl/log/globals.h"

__attribute__((constructor)) static void apply_log_level() {
  const char* level = std::getenv("TF_CPP_MIN_LOG_LEVEL");
  if (level == nullptr || *level < '0' || *level > '3') return;
  absl::SetMinLogLevel(static_cast<absl::LogSeverityAtLeast>(*level - '0'));
}
