// Part of the binding: what TensorFlow's libraries need of the process, set as soon as they are loaded.
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <thread>

#include "absl/base/log_severity.h"
#include "absl/log/globals.h"

// TensorFlow 2.21 logs through absl, and only its Python package applies TF_CPP_MIN_LOG_LEVEL to that (mute.cc covers the moment before).
__attribute__((constructor)) static void apply_log_level() {
  const char* level = std::getenv("TF_CPP_MIN_LOG_LEVEL");
  if (level == nullptr || *level < '0' || *level > '3') return;
  absl::SetMinLogLevel(static_cast<absl::LogSeverityAtLeast>(*level - '0'));
}

// Left alone, glibc gives every large buffer back to the system after each kernel and faults it in again, 4 KiB at a time and zeroed, for the
// next one: 60,000 faults a training step. Large buffers from the heap, which keeps its memory, and huge pages for the heap's first part
// make that 4,000. The reserve is address space only; memory is taken as it is touched.
__attribute__((constructor)) static void keep_buffers() {
  constexpr size_t kReserveBytes = size_t{8} << 30;
  constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);  // never
  mallopt(M_TOP_PAD, 64 << 20);
  void* reserve = std::malloc(kReserveBytes);
  if (reserve == nullptr) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(reserve) + kHugePage - 1) & ~(kHugePage - 1);
  madvise(reinterpret_cast<void*>(begin), kReserveBytes - kHugePage, MADV_HUGEPAGE);
  std::free(reserve);
}

// TensorFlow multiplies matrices by oneDNN's compiled-on-the-spot code, which for long sums sets the stack pointer to a buffer of the heap's. A
// signal handled by such a thread writes its frame over whatever lies before that buffer: one in about 50 signals ended training in heap corruption.
// So this thread, and all that it will start, leave signals to one that only waits for them; libuv's handlers may run on any. Faults stay with
// the thread that they are of, and so does SIGPROF, which V8's profiler sends to a thread and handles on its signal stack.
__attribute__((constructor)) static void keep_signals_off_the_heap() {
  constexpr int kOwn[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF};
  constexpr size_t kSignalStackBytes = 64 << 10;
  std::thread([] {
    for (;;) pause();
  }).detach();
  sigset_t signals;
  sigfillset(&signals);
  for (int own : kOwn) sigdelset(&signals, own);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  stack_t stack = {};
  stack.ss_sp = std::malloc(kSignalStackBytes);
  stack.ss_size = kSignalStackBytes;
  if (stack.ss_sp != nullptr) sigaltstack(&stack, nullptr);
}
