// Splits a loop over the cores. The pieces depend on the number of threads alone, so that sums over pieces come out the same each time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

namespace nextvlad {

// As many threads as TensorFlow takes by default: one a core that the process may use.
class Pool {
 public:
  static Pool& Shared() {
    static Pool* pool = new Pool();  // never freed: its threads wait until the process ends
    return *pool;
  }

  int threads() const { return threads_; }

  // Runs body(piece) for each piece 0..threads-1, piece 0 on the caller's thread; returns when all are done.
  void Run(const std::function<void(int)>& body) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      body_ = &body;
      running_ = threads_ - 1;
      generation_++;
    }
    wake_.notify_all();
    body(0);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return running_ == 0; });
  }

 private:
  Pool() : threads_(std::max(1u, std::thread::hardware_concurrency())) {
    for (int piece = 1; piece < threads_; piece++) std::thread([this, piece] { Work(piece); }).detach();
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
      (*body)(piece);
      {
        std::lock_guard<std::mutex> lock(mutex_);
        running_--;
      }
      done_.notify_one();
    }
  }

  const int threads_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int)>* body_ = nullptr;
  uint64_t generation_ = 0;
  int running_ = 0;
};

// body(next) on each thread, where next(&item) hands out 0..count-1 as threads get free, and is false when there are no more. Which thread
// does an item must change nothing in its result.
template <class Body>
void ShareOut(int64_t count, const Body& body) {
  std::atomic<int64_t> begun{0};
  Pool::Shared().Run([&](int) { body([&](int64_t* item) { return (*item = begun++) < count; }); });
}

// body(begin, end, piece) for contiguous pieces of 0..count.
template <class Body>
void ParallelFor(int64_t count, const Body& body) {
  Pool& pool = Pool::Shared();
  const int64_t threads = pool.threads();
  pool.Run([&](int piece) { body(count * piece / threads, count * (piece + 1) / threads, piece); });
}

}  // namespace nextvlad
