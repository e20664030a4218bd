// Splits a loop over threads. The pieces depend only on the number of threads, so that sums over pieces are reproducible.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace nextvlad {

class Pool {
 public:
  // Sets the number of threads, including the caller's, that the first call of Shared() starts; 1 by default.
  static void SetThreads(int threads) { max_threads_ = threads; }

  static Pool& Shared() {
    static Pool* pool = new Pool();  // never freed: its threads wait until the process ends
    return *pool;
  }

  int threads() const { return threads_; }

  // Runs body(piece) for each piece in [0, threads), piece 0 on the caller's thread; returns when all are done. Rethrows the first exception.
  void Run(const std::function<void(int)>& body) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      body_ = &body;
      running_ = threads_ - 1;
      generation_++;
    }
    wake_.notify_all();
    RunPiece(body, 0);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return running_ == 0; });
    if (failure_ != nullptr) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

 private:
  Pool() {
    try {
      for (; threads_ < max_threads_; threads_++) std::thread([this, piece = threads_] { Work(piece); }).detach();
    } catch (const std::system_error&) {
      // The process may not start more threads: use those that have started.
    }
  }

  void RunPiece(const std::function<void(int)>& body, int piece) {
    try {
      body(piece);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (failure_ == nullptr) failure_ = std::current_exception();
    }
  }

  void Work(int piece) {
    uint64_t seen = 0;
    for (;;) {
      const std::function<void(int)>* body;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_ != seen; });
        seen = generation_;
        body = body_;
      }
      RunPiece(*body, piece);
      {
        std::lock_guard<std::mutex> lock(mutex_);
        running_--;
      }
      done_.notify_one();
    }
  }

  inline static int max_threads_ = 1;
  int threads_ = 1;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int)>* body_ = nullptr;
  uint64_t generation_ = 0;
  int running_ = 0;
  std::exception_ptr failure_;
};

// Runs body(next) on each thread. next(&item) returns the items 0..count-1, each to the first idle thread, and false when none are left. An item's result must
// not depend on its thread.
template <class Body>
void ForEachItem(int64_t count, const Body& body) {
  std::atomic<int64_t> started{0};
  Pool::Shared().Run([&](int) { body([&](int64_t* item) { return (*item = started++) < count; }); });
}

// Runs body(begin, end, piece) for contiguous pieces of [0, count), one per thread.
template <class Body>
void ParallelFor(int64_t count, const Body& body) {
  Pool& pool = Pool::Shared();
  const int64_t threads = pool.threads();
  pool.Run([&](int piece) { body(count * piece / threads, count * (piece + 1) / threads, piece); });
}

}  // namespace nextvlad
