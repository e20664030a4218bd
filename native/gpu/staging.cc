// A copy from ordinary memory makes the driver wait for the device, and moves 3 GB/s (measured on an H200: 55 MB in 18 ms). From memory that the device
// can reach by itself it waits for nothing, at the bus's speed.
#include <algorithm>
#include <cstring>
#include <deque>
#include <mutex>
#include <vector>

#include "../parallel.h"
#include "device.h"
#include "driver.h"

namespace nextvlad::gpu {
namespace {

constexpr size_t kRingBytes = size_t{384} << 20;
constexpr size_t kMostPending = 1024;
constexpr size_t kWorthThreads = size_t{1} << 20;
constexpr unsigned kForAllDevices = 1;

// The driver's calls want a device to be the thread's own, as it is only while TensorFlow runs a kernel.
class OwnDevice {
 public:
  OwnDevice() {
    const Driver& driver = Driver::Shared();
    driver.Check(driver.push_context(Primary()), "taking the device");
  }
  ~OwnDevice() {
    void* context;
    Driver::Shared().pop_context(&context);
  }

 private:
  static void* Primary() {
    static void* context = [] {
      const Driver& driver = Driver::Shared();
      int device;
      void* primary = nullptr;
      driver.Check(driver.initialise(0), "starting the driver");
      driver.Check(driver.device(&device, 0), "finding the device");
      driver.Check(driver.retain_primary(&primary, device), "taking the device");
      return primary;
    }();
    return context;
  }
};

// A ring of memory that the device reaches. What was taken may be used again once the copy out of it is done.
class Ring {
 public:
  static Ring& Shared() {
    static Ring* ring = new Ring();  // never freed: copies may run to the process's end
    return *ring;
  }

  // Copies bytes into the ring, and returns where they are in it.
  size_t Fill(const char* bytes, size_t count) {
    std::lock_guard<std::mutex> lock(mutex_);
    const size_t begin = Take(RoundUp(count));
    char* to = static_cast<char*>(memory_) + begin;
    if (count < kWorthThreads) {
      std::memcpy(to, bytes, count);
    } else {
      ParallelFor(count, [=](int64_t from, int64_t end, int) { std::memcpy(to + from, bytes + from, end - from); });
    }
    return begin;
  }

  // Copies what lies there to the device.
  void Empty(size_t begin, size_t count, void* to, Stream stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    const Driver& driver = Driver::Shared();
    auto copy = std::find_if(pending_.rbegin(), pending_.rend(), [=](const Copy& one) { return one.begin == begin && one.event == nullptr; });
    if (copy == pending_.rend() || copy->end - begin < count) throw DeviceError("nothing was staged there");
    driver.Check(driver.copy_to_device(reinterpret_cast<unsigned long long>(to), static_cast<char*>(memory_) + begin, count, stream), "copying to the device");
    copy->event = Event();
    driver.Check(driver.record_event(copy->event, stream), "marking a copy");
  }

 private:
  struct Copy {
    size_t begin, end;
    void* event;  // null before the copy has begun
  };

  Ring() { Driver::Shared().Check(Driver::Shared().allocate_host(&memory_, kRingBytes, kForAllDevices), "taking memory for copies"); }

  static size_t RoundUp(size_t bytes) { return (std::max<size_t>(bytes, 1) + kStagingUnit - 1) / kStagingUnit * kStagingUnit; }

  size_t Take(size_t bytes) {
    if (bytes > kMostStaged) throw DeviceError("too much for one copy");
    // Copies are done in their order, so those that stand in the way are the first. At the ring's end what is left of it is passed over.
    if (next_ + bytes > kRingBytes) {
      while (!pending_.empty() && pending_.front().begin >= next_) Retire();
      next_ = 0;
    }
    while (!pending_.empty() && pending_.front().begin < next_ + bytes && pending_.front().end > next_) Retire();
    // Small copies, of which the ring has room for a million, are done long before it comes round.
    while (pending_.size() > kMostPending) Retire();
    pending_.push_back({next_, next_ + bytes, nullptr});
    next_ += bytes;
    return next_ - bytes;
  }

  // What was staged and never sent, as the call failed, is nobody's any more.
  void Retire() {
    const Driver& driver = Driver::Shared();
    void* event = pending_.front().event;
    if (event != nullptr) {
      driver.Check(driver.wait_for_event(event), "waiting for a copy");
      free_events_.push_back(event);
    }
    pending_.pop_front();
  }

  void* Event() {
    void* event = nullptr;
    if (free_events_.empty()) {
      Driver::Shared().Check(Driver::Shared().create_event(&event, kNoTiming), "making an event");
    } else {
      event = free_events_.back();
      free_events_.pop_back();
    }
    return event;
  }

  std::mutex mutex_;
  void* memory_ = nullptr;
  size_t next_ = 0;
  std::deque<Copy> pending_;
  std::vector<void*> free_events_;
};

}  // namespace

size_t Stage(const void* bytes, size_t count) {
  OwnDevice device;
  return Ring::Shared().Fill(static_cast<const char*>(bytes), count) / kStagingUnit;
}

void SendStaged(size_t place, size_t count, void* to, Stream stream) { Ring::Shared().Empty(place * kStagingUnit, count, to, stream); }

void Send(const void* bytes, size_t count, void* to, Stream stream) { SendStaged(Stage(bytes, count), count, to, stream); }

}  // namespace nextvlad::gpu
