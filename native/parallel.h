// Splits a loop over threads. The pieces depend only on the number of threads, so that sums over pieces are reproducible. A thread may take
// long to wake up (50 us and more in a virtual machine), so the caller takes whatever pieces are left, and does not wait for a thread that got none.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace nextvlad {

class Pool {
 public:
  using Body = std::function<void(int thread)>;

  // Sets the number of threads, including the caller's, that the first call of Shared() starts; 1 by default.
  static void SetThreads(int threads) { max_threads_ = threads; }

  static Pool& Shared() {
    static Pool* pool = new Pool();  // never freed: its threads wait until the process ends
    return *pool;
  }

  int threads() const { return threads_; }

  // Runs body(thread) on the caller's thread, which is number 0, and on each thread that wakes up before the caller's has returned; returns when all have. So one
  // call must be able to do all the work. Rethrows the first exception.
  void Run(const Body& body) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      body_ = &body;
      generation_++;
    }
    if (threads_ > 1) wake_.notify_all();
    RunBody(body, 0);
    std::unique_lock<std::mutex> lock(mutex_);
    body_ = nullptr;
    if (running_ > 0) {
      lock.unlock();
      SpinUntil([this] { return running_ == 0; });
      lock.lock();
    }
    done_.wait(lock, [this] { return running_ == 0; });
    if (failure_ != nullptr) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

 private:
  static constexpr std::chrono::microseconds kSpinTime{500};

  Pool() {
    try {
      for (; threads_ < max_threads_; threads_++) std::thread([this, thread = threads_] { Work(thread); }).detach();
    } catch (const std::system_error&) {
      // The process may not start more threads: use those that have started.
    }
  }

  // Waits for a short time until done() is true. Sleeping threads take long to wake up, and most kernels of a training step on short clips take no longer: with
  // 100 us instead of 500, its threads still sleep while the other computes alone, and it takes 2 % longer.
  template <class Done>
  static void SpinUntil(const Done& done) {
    const auto end = std::chrono::steady_clock::now() + kSpinTime;
    while (!done() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  }

  void RunBody(const Body& body, int thread) {
    try {
      body(thread);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (failure_ == nullptr) failure_ = std::current_exception();
    }
  }

  void Work(int thread) {
    uint64_t seen = 0;
    for (;;) {
      const Body* body;
      SpinUntil([this, seen] { return generation_ != seen; });
      {
        std::unique_lock<std::mutex> lock(mutex_);
        if (body_ == nullptr && generation_ != seen) {  // it has ended without this thread
          seen = generation_;
          continue;
        }
        wake_.wait(lock, [&] { return body_ != nullptr && generation_ != seen; });
        seen = generation_;
        body = body_;
        running_++;
      }
      RunBody(*body, thread);
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
  // Null between runs.
  const Body* body_ = nullptr;
  std::atomic<uint64_t> generation_ = 0;
  // Threads in body_, without the caller's.
  std::atomic<int> running_ = 0;
  std::exception_ptr failure_;
};

// Runs body(next) on each thread. next(&item) returns the items 0..count-1: those of the thread's own share first, then what is left of the others' shares, and false
// when none are left. The shares are contiguous, so that a thread finds a part of the data where it left it in the kernel before: between cores with different L3
// caches, a training step of AudioSet's clips otherwise takes up to 1.3 times as long. An item's result must not depend on its thread.
template <class Body>
void ForEachItem(int64_t count, const Body& body) {
  struct alignas(64) Share {  // a cache line each
    std::atomic<int64_t> next;
    int64_t end;
  };
  const int64_t threads = Pool::Shared().threads();
  std::vector<Share> shares(threads);
  for (int64_t i = 0; i < threads; i++) shares[i].next = count * i / threads, shares[i].end = count * (i + 1) / threads;
  Pool::Shared().Run([&](int thread) {
    body([&](int64_t* item) {
      for (int64_t i = 0; i < threads; i++) {
        Share& share = shares[(thread + i) % threads];
        if (share.next < share.end && (*item = share.next++) < share.end) return true;
      }
      return false;
    });
  });
}

// Runs body(begin, end, piece) for contiguous pieces of [0, count), as many as there are threads.
template <class Body>
void ParallelFor(int64_t count, const Body& body) {
  const int64_t pieces = Pool::Shared().threads();
  ForEachItem(pieces, [&](const auto& next) {
    int64_t piece;
    while (next(&piece)) body(count * piece / pieces, count * (piece + 1) / pieces, static_cast<int>(piece));
  });
}

// Maximum number of values for which waking a thread costs more than it saves.
constexpr int64_t kMaxSerial = 1 << 14;

// Runs body(begin, end) for pieces of [0, count) values; for few values on the caller's thread only.
template <class Body>
void ForValues(int64_t count, const Body& body) {
  if (count <= kMaxSerial) {
    body(0, count);
  } else {
    ParallelFor(count, [&](int64_t begin, int64_t end, int) { body(begin, end); });
  }
}

}  // namespace nextvlad
