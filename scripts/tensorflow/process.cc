// Part of the binding: settings of the process that TensorFlow's libraries need, applied when they are loaded.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "absl/base/log_severity.h"
#include "absl/log/globals.h"

// TensorFlow 2.21 logs through absl, to which only its Python package applies TF_CPP_MIN_LOG_LEVEL. loader.cc covers the time before this.
__attribute__((constructor)) static void apply_log_level() {
  const char* level = std::getenv("TF_CPP_MIN_LOG_LEVEL");
  if (level == nullptr || *level < '0' || *level > '3') return;
  absl::SetMinLogLevel(static_cast<absl::LogSeverityAtLeast>(*level - '0'));
}

// TensorFlow multiplies matrices with oneDNN's JIT-compiled code, which for long sums sets the stack pointer to a buffer on the heap. A signal handled by such a
// thread overwrites the memory before that buffer: about one in 50 signals corrupted the heap during training. So this thread and all that it starts block
// signals, and one thread only waits for them; libuv's handlers may run on any thread. Not blocked are faults, and SIGPROF, which V8's profiler sends to a thread
// and handles on its signal stack.
__attribute__((constructor)) static void keep_signals_off_the_heap() {
  constexpr int kUnblocked[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF};
  constexpr size_t kSignalStackBytes = 64 << 10;
  std::thread([] {
    for (;;) pause();
  }).detach();
  sigset_t signals;
  sigfillset(&signals);
  for (int signal : kUnblocked) sigdelset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  stack_t stack = {};
  stack.ss_sp = std::malloc(kSignalStackBytes);
  stack.ss_size = kSignalStackBytes;
  if (stack.ss_sp != nullptr) sigaltstack(&stack, nullptr);
}
