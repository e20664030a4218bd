// A copy from ordinary memory makes the driver wait for the device, and moves 3 GB/s (measured on an H200: 55 MB in 18 ms). From memory that the device
// can reach by itself it waits for nothing, at the bus's speed.
#include "device.h"
#include "driver.h"
#include "ring.h"

namespace nextvlad::gpu {
namespace {

constexpr size_t kRingBytes = size_t{384} << 20;
// Small copies, of which the ring has room for a million, are done long before it comes round.
constexpr size_t kMaxPending = 1024;
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

// The driver's calls that the ring needs.
struct CudaDevice {
  const Driver& driver = Driver::Shared();

  void* Allocate(size_t bytes) {
    void* memory = nullptr;
    driver.Check(driver.allocate_host(&memory, bytes, kForAllDevices), "taking memory for copies");
    return memory;
  }
  void Copy(void* to, const void* from, size_t count, Stream stream) {
    driver.Check(driver.copy_to_device(reinterpret_cast<unsigned long long>(to), from, count, stream), "copying to the device");
  }
  void* CreateEvent() {
    void* event = nullptr;
    driver.Check(driver.create_event(&event, kNoTiming), "making an event");
    return event;
  }
  void Record(void* event, Stream stream) { driver.Check(driver.record_event(event, stream), "marking a copy"); }
  void Wait(void* event) { driver.Check(driver.wait_for_event(event), "waiting for a copy"); }
};

Ring<CudaDevice>& SharedRing() {
  // Never freed: copies may run to the process's end.
  static auto* device = new CudaDevice();
  static auto* ring = new Ring<CudaDevice>(*device, kRingBytes, kMaxPending);
  return *ring;
}

}  // namespace

size_t Stage(const void* bytes, size_t count) {
  OwnDevice device;
  return SharedRing().Fill(static_cast<const char*>(bytes), count, kMostStaged) / kStagingUnit;
}

void SendStaged(size_t place, size_t count, void* to, Stream stream) { SharedRing().Empty(place * kStagingUnit, count, to, stream); }

void Send(const void* bytes, size_t count, void* to, Stream stream) { SendStaged(Stage(bytes, count), count, to, stream); }

}  // namespace nextvlad::gpu
