// Tests the staging ring (native/gpu/ring.h) with a fake device, which executes copies late, when they are waited for or at random times: each must still find
// the bytes that were staged for it. Prints "ok", or the first failure.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>

#include "../../native/gpu/ring.h"

using nextvlad::gpu::DeviceError;
using nextvlad::gpu::kStagingUnit;
using nextvlad::gpu::Ring;

namespace {

void Expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("%s\n", what);
  std::exit(1);
}

struct FakeDevice {
  struct Copy {
    void* to;
    const void* from;
    size_t count;
    void* event;
  };

  void* Allocate(size_t bytes) {
    memory.resize(bytes);
    return memory.data();
  }
  void Copy(void* to, const void* from, size_t count, void*) { queue.push_back({to, from, count, nullptr}); }
  void* CreateEvent() { return reinterpret_cast<void*>(++events); }
  void Record(void* event, void*) { queue.back().event = event; }
  void Wait(void* event) {
    waits++;
    bool found = false;
    for (const auto& copy : queue) found = found || copy.event == event;
    while (found && !queue.empty()) {
      const bool last = queue.front().event == event;
      Advance();
      if (last) return;
    }
  }
  void Advance() {
    std::memcpy(queue.front().to, queue.front().from, queue.front().count);
    queue.pop_front();
  }

  std::vector<char> memory;
  std::deque<struct Copy> queue;
  uintptr_t events = 0;
  int waits = 0;
};

template <class Work>
bool Throws(const Work& work) {
  try {
    work();
  } catch (const DeviceError&) {
    return true;
  }
  return false;
}

constexpr size_t kUnit = kStagingUnit;

struct Small {
  FakeDevice device;
  Ring<FakeDevice> ring{device, 8 * kUnit, 100};
  std::vector<char> bytes = std::vector<char>(16 * kUnit, 'x');
  std::vector<char> target = std::vector<char>(16 * kUnit);

  size_t Fill(size_t units) { return ring.Fill(bytes.data(), units * kUnit, 16 * kUnit) / kUnit; }
  void Empty(size_t at, size_t units) { ring.Empty(at * kUnit, units * kUnit, target.data(), nullptr); }
  size_t Send(size_t units) {
    const size_t at = Fill(units);
    Empty(at, units);
    return at;
  }
};

void WrapsAround() {
  Small s;
  Expect(s.Send(3) == 0 && s.Send(3) == 3 && s.Send(2) == 6, "copies that fit are contiguous, up to the last byte");
  Expect(s.device.waits == 0, "waited although there was space");
  Expect(s.Send(3) == 0 && s.device.waits == 1, "the start of the ring is reused after waiting for its copy only");
  Expect(s.Send(1) == 3 && s.device.waits == 2, "waits for the next copy from the same memory");
  Expect(s.Send(4) == 4 && s.device.waits == 3, "a copy across an old boundary waits for all copies from its memory");
  Small units;
  for (size_t i = 0; i < 8; i++) Expect(units.Send(1) == i && units.device.waits == 0, "copies of one unit fill the ring");
  Expect(units.Send(1) == 0 && units.device.waits == 1, "a copy waits for the one whose memory it reuses");
}

void SkipsTheEnd() {
  Small s;
  Expect(s.Send(3) == 0 && s.Send(3) == 3, "two copies");
  Expect(s.Send(3) == 0 && s.device.waits == 1, "a copy that does not fit the rest starts at 0");
  Expect(s.Send(3) == 3 && s.device.waits == 2, "the next copy follows it");
  Expect(s.Send(8) == 0 && s.device.waits == 4, "a copy of the size of the ring waits for all");
  Expect(s.Send(1) == 0 && s.device.waits == 5, "the next copy waits for it");
  Small full;
  Expect(full.Send(3) == 0 && full.Send(3) == 3 && full.Send(2) == 6 && full.Send(3) == 0 && full.Send(3) == 3, "two rounds");
  Expect(full.Send(3) == 0 && full.device.waits == 4, "waits for a copy from the skipped end too, and for the one whose memory is reused");
}

void DropsUnsentBytes() {
  Small s;
  const size_t lost = s.Fill(6);
  Expect(s.Send(6) == 0 && s.device.waits == 0, "does not wait for a copy that never started");
  Expect(Throws([&] { s.Empty(lost, 6); }), "reused memory is an error");
  const size_t at = s.Fill(2);
  Expect(Throws([&] { s.Empty(at, 3); }), "more bytes than were staged are an error");
  s.Empty(at, 2);
  Expect(Throws([&] { s.Empty(at, 2); }), "staged bytes can be copied once");
  Expect(Throws([&] { s.Empty(5, 1); }), "a position that was not staged is an error");
}

void RejectsTooManyBytes() {
  Small s;
  Expect(Throws([&] { s.Fill(9); }), "more bytes than the ring has are an error");
  Expect(Throws([&] { s.ring.Fill(s.bytes.data(), 2, 1); }), "more bytes than the maximum are an error");
  Expect(s.Fill(0) == 0 && s.Fill(1) == 1, "zero bytes take one unit");
}

void LimitsPendingCopies() {
  FakeDevice device;
  Ring<FakeDevice> ring(device, 1000 * kUnit, 10);
  char byte = 'x', target;
  for (int i = 0; i < 300; i++) ring.Empty(ring.Fill(&byte, 1, 1), 1, &target, nullptr);
  Expect(device.queue.size() == 10 && device.waits == 290, "the number of pending copies is limited");
  Expect(device.events == 10, "events are reused");
}

// Copies of all sizes, sent late, in any order or never: each must deliver its own bytes.
void DeliversEveryByte(unsigned seed) {
  constexpr size_t kRing = size_t{4} << 20, kMaxBytes = size_t{3} << 19;
  FakeDevice device;
  Ring<FakeDevice> ring(device, kRing, 50);
  std::mt19937 random(seed);
  const auto below = [&](size_t limit) { return static_cast<size_t>(random() % limit); };
  struct Sent {
    std::vector<char> bytes, target;
  };
  std::vector<std::unique_ptr<Sent>> all;
  struct Staged {
    size_t at;
    Sent* sent;
  };
  std::deque<Staged> staged;
  size_t total = 0;
  for (int step = 0; step < 1500; step++) {
    const size_t limits[] = {2, 3 * kUnit, 40000, kMaxBytes + 1}, count = below(limits[below(20) == 0 ? 3 : below(3)]);
    auto sent = std::make_unique<Sent>();
    sent->bytes.resize(count);
    sent->target.resize(count);
    for (size_t i = 0; i < count; i += 97) sent->bytes[i] = static_cast<char>(random());
    if (count > 0) sent->bytes[count - 1] = static_cast<char>(step);
    const size_t at = ring.Fill(sent->bytes.data(), count, kMaxBytes);
    Expect(at % kUnit == 0 && at + count <= kRing, "a copy is inside the ring and starts at a unit");
    total += count;
    staged.push_back({at, sent.get()});
    all.push_back(std::move(sent));
    // At most two are unsent, which the ring has space for.
    while (staged.size() > below(3)) {
      const size_t which = below(staged.size());
      const Staged one = staged[which];
      staged.erase(staged.begin() + which);
      if (below(50) == 0) {
        one.sent->bytes.clear();  // never sent
        one.sent->target.clear();
      } else {
        ring.Empty(one.at, one.sent->bytes.size(), one.sent->target.data(), nullptr);
      }
    }
    for (size_t i = below(3); i > 0 && !device.queue.empty(); i--) device.Advance();
  }
  while (!staged.empty()) {
    ring.Empty(staged.front().at, staged.front().sent->bytes.size(), staged.front().sent->target.data(), nullptr);
    staged.pop_front();
  }
  while (!device.queue.empty()) device.Advance();
  for (const auto& sent : all) Expect(sent->bytes == sent->target, "a copy delivers the bytes that were staged");
  Expect(total > 10 * kRing, "the ring wraps around");
}

}  // namespace

int main() {
  WrapsAround();
  SkipsTheEnd();
  DropsUnsentBytes();
  RejectsTooManyBytes();
  LimitsPendingCopies();
  for (unsigned seed = 0; seed < 5; seed++) DeliversEveryByte(seed);
  std::puts("ok");
}
