// A ring buffer of host memory from which a device copies asynchronously. Memory is reused once the copy from it is done. The device is a template parameter,
// so that a test can replace the driver (test/native/ring.cc).
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <mutex>
#include <vector>

#include "../parallel.h"
#include "device.h"

namespace nextvlad::gpu {

// `Device` has Allocate(bytes), Copy(to, from, count, stream), CreateEvent(), Record(event, stream) and Wait(event), which throw if they fail.
template <class Device>
class Ring {
 public:
  // Creates a ring of `size` bytes with at most `max_pending` pending copies.
  Ring(Device& device, size_t size, size_t max_pending)
      : device_(device), size_(size), max_pending_(max_pending), memory_(static_cast<char*>(device.Allocate(size))) {}

  // Copies `count` bytes into the ring, and returns their position. Waits for pending copies from that memory. Throws if `count` exceeds `max_count`.
  size_t Fill(const char* bytes, size_t count, size_t max_count) {
    if (count > max_count || RoundUp(count) > size_) throw DeviceError("too many bytes for one copy");
    std::lock_guard<std::mutex> lock(mutex_);
    const size_t begin = Take(RoundUp(count));
    char* to = memory_ + begin;
    if (count < kMinParallel) {
      std::memcpy(to, bytes, count);
    } else {
      ParallelFor(count, [=](int64_t from, int64_t end, int) { std::memcpy(to + from, bytes + from, end - from); });
    }
    return begin;
  }

  // Starts the copy to the device of what `Fill` wrote at `begin`. Throws if it did not, or if it wrote less than `count` bytes.
  void Empty(size_t begin, size_t count, void* to, Stream stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto copy = std::find_if(pending_.rbegin(), pending_.rend(), [=](const Pending& one) { return one.begin == begin && one.event == nullptr; });
    if (copy == pending_.rend() || copy->end - begin < count) throw DeviceError("no staged bytes at this position");
    void* event = TakeEvent();
    device_.Copy(to, memory_ + begin, count, stream);
    copy->event = event;
    device_.Record(event, stream);
  }

 private:
  static constexpr size_t kMinParallel = size_t{1} << 20;

  struct Pending {
    size_t begin, end;
    void* event;  // null before the copy has started
  };

  static size_t RoundUp(size_t bytes) { return (std::max<size_t>(bytes, 1) + kStagingUnit - 1) / kStagingUnit * kStagingUnit; }

  size_t Take(size_t bytes) {
    // Copies finish in order, so those from this memory are the oldest. The rest of the ring is skipped if it is too small.
    if (next_ + bytes > size_) {
      while (!pending_.empty() && pending_.front().begin >= next_) Retire();
      next_ = 0;
    }
    while (!pending_.empty() && pending_.front().begin < next_ + bytes && pending_.front().end > next_) Retire();
    while (pending_.size() >= max_pending_) Retire();
    pending_.push_back({next_, next_ + bytes, nullptr});
    next_ += bytes;
    return next_ - bytes;
  }

  // Frees the memory of the oldest copy. A copy that never started, because its call failed, is dropped.
  void Retire() {
    void* event = pending_.front().event;
    if (event != nullptr) {
      device_.Wait(event);
      free_events_.push_back(event);
    }
    pending_.pop_front();
  }

  void* TakeEvent() {
    if (free_events_.empty()) return device_.CreateEvent();
    void* event = free_events_.back();
    free_events_.pop_back();
    return event;
  }

  Device& device_;
  const size_t size_, max_pending_;
  char* const memory_;
  std::mutex mutex_;
  size_t next_ = 0;
  std::deque<Pending> pending_;
  std::vector<void*> free_events_;
};

}  // namespace nextvlad::gpu
