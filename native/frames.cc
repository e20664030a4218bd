// From bytes to each video's sums in one go, with frozen weights: a group's cluster logits, its softmax, its expansion and its sums over frames
// all stay in the second cache; nothing the size of a batch's frames is ever written.
#include <vector>

#include "byte_panels.h"
#include "kernel.h"
#include "kernels.h"
#include "parallel.h"
#include "softmax.h"

namespace nextvlad {
namespace {

constexpr int64_t kChunk = 320;    // frames whose values of one group lie in the second cache
constexpr int64_t kSumChunk = 64;  // frames whose assignments lie in the first
constexpr int kSumRows = 4;

struct Sizes {
  int64_t features, groups, clusters, group_size;
  PanelShape shape;
  int64_t padded_clusters() const { return RoundUp(clusters, kLanes); }
  int64_t padded_group() const { return RoundUp(group_size, kLanes); }
};

struct Panels {
  const float *clusters, *attention, *expansion;
};

// sums[p, 16 kVectors clusters] += x[t, p] a[t, clusters] for kSumRows p's; x is [frames][16], a and sums have rows of `stride`.
template <int kVectors>
inline void AddSums(const float* x, const float* a, int64_t frames, int64_t stride, float* sums) {
  Vector total[kSumRows][kVectors];
#pragma GCC unroll 4
  for (int p = 0; p < kSumRows; p++) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) total[p][v] = Load(sums + p * stride + v * kLanes);
  }
  for (int64_t t = 0; t < frames; t++) {
    Vector row[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) row[v] = Load(a + t * stride + v * kLanes);
#pragma GCC unroll 4
    for (int p = 0; p < kSumRows; p++) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) total[p][v] += x[t * kLanes + p] * row[v];
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < kSumRows; p++) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) Store(sums + p * stride + v * kLanes, total[p][v]);
  }
}

// One thread's memory.
struct Scratch {
  explicit Scratch(const Sizes& s)
      : attention(kChunk * RoundUp(s.groups, kLanes)), assignment(kChunk * s.padded_clusters()), expanded(kChunk * s.padded_group()),
        sums(s.padded_group() * s.padded_clusters()) {}
  Floats attention, assignment, expanded, sums;
};

// One group of a chunk of frames of one video: adds to scratch.sums and to the group's mass.
void AddGroup(const uint8_t* bytes, int64_t frames, int64_t stride, const Panels& panels, const Sizes& s, int64_t group, Scratch& scratch, float* mass) {
  const PanelShape shape = s.shape;
  const int64_t clusters = s.padded_clusters(), panel_floats = shape.floats();
  float* a = scratch.assignment.data();
  for (int64_t k = 0; k < clusters; k += kLanes) {
    MultiplyPanel(bytes, frames, stride, panels.clusters + (group * clusters + k) / kLanes * panel_floats, shape, a + k, clusters);
  }
  const float* attention = scratch.attention.data() + group / kLanes * frames * kLanes + group % kLanes;
  for (int64_t t = 0; t < frames; t++) {
    AssignClusters(a + t * clusters, s.clusters, Sigmoid(attention[t * kLanes]), mass);
    for (int64_t k = s.clusters; k < clusters; k++) a[t * clusters + k] = 0;
  }
  for (int64_t p = 0; p < s.padded_group(); p += kLanes) {
    float* x = scratch.expanded.data() + p * frames;
    MultiplyPanel(bytes, frames, stride, panels.expansion + (group * s.padded_group() + p) / kLanes * panel_floats, shape, x, kLanes);
  }
  for (int64_t begin = 0; begin < frames; begin += kSumChunk) {
    const int64_t count = std::min(kSumChunk, frames - begin);
    for (int64_t k = 0; k < clusters;) {
      const int64_t vectors = (clusters - k) / kLanes;
      for (int64_t p = 0; p < s.padded_group(); p += kSumRows) {
        const float* x = scratch.expanded.data() + p / kLanes * kLanes * frames + begin * kLanes + p % kLanes;
        float* sums = scratch.sums.data() + p * clusters + k;
        if (vectors >= 4) {
          AddSums<4>(x, a + begin * clusters + k, count, clusters, sums);
        } else {
          AddSums<1>(x, a + begin * clusters + k, count, clusters, sums);
        }
      }
      k += (vectors >= 4 ? 4 : 1) * kLanes;
    }
  }
}

// Groups first..last of one video: its sums [P, K] and these groups' mass [K] each.
void SumVideo(const ByteRows& bytes, int64_t first_frame, int64_t frames, const Panels& panels, const Sizes& s, int64_t first, int64_t last,
              Scratch& scratch, float* mass, float* sums) {
  std::fill(scratch.sums.begin(), scratch.sums.end(), 0.0f);
  std::fill(mass + first * s.clusters, mass + last * s.clusters, 0.0f);
  for (int64_t begin = 0; begin < frames; begin += kChunk) {
    const int64_t count = std::min(kChunk, frames - begin);
    const uint8_t* rows = bytes.row(first_frame + begin);
    for (int64_t g = 0; g < s.groups; g += kLanes) {
      MultiplyPanel(rows, count, bytes.stride(), panels.attention + g / kLanes * s.shape.floats(), s.shape, scratch.attention.data() + g * count, kLanes);
    }
    for (int64_t g = first; g < last; g++) AddGroup(rows, count, bytes.stride(), panels, s, g, scratch, mass + g * s.clusters);
  }
  for (int64_t p = 0; p < s.group_size; p++) {
    std::memcpy(sums + p * s.clusters, scratch.sums.data() + p * s.padded_clusters(), s.clusters * sizeof(float));
  }
}

// Inputs: bytes (uint8, carried four to a float), frame counts [B], panels of the normalised cluster logits (groups apart), of the attention and of
// the expansion (groups apart), and [features, groups, clusters, group size, terms].
// Outputs: the sum over frames and groups of assignment times expansion [B, P, K], the assignment's sum over frames [B, G K].
void Frames(Call& call) {
  const int32_t* n = call.Sizes(5, 5);
  const Sizes s{n[0], n[1], n[2], n[3], ShapeOfPanels(n[0], n[4])};
  const int64_t floats = s.shape.floats() / kLanes;
  call.ExpectCount(2, s.groups * s.padded_clusters() * floats);
  call.ExpectCount(3, RoundUp(s.groups, kLanes) * floats);
  call.ExpectCount(4, s.groups * s.padded_group() * floats);
  const std::vector<int32_t> offsets = call.Offsets(1);
  const int64_t videos = offsets.size() - 1;
  const ByteRows bytes(call.Bytes(0, offsets[videos] * s.features), offsets[videos], s.features);
  const Panels panels{call.Input<float>(2), call.Input<float>(3), call.Input<float>(4)};
  float* sums = call.Output(0, {videos, s.group_size, s.clusters});
  float* mass = call.Output(1, {videos, s.groups * s.clusters});

  // A few videos are shared out by groups, so that all cores have work; the parts are added in their own order.
  const int threads = Pool::Shared().threads();
  const int64_t parts = videos >= 4 * threads ? 1 : std::min<int64_t>(s.groups, threads);
  const int64_t size = s.group_size * s.clusters;
  std::vector<float> shares((parts - 1) * videos * size);
  ShareOut(videos * parts, [&](const auto& next) {
    Scratch scratch(s);
    for (int64_t item; next(&item);) {
      const int64_t video = item / parts, part = item % parts;
      float* into = part == 0 ? sums + video * size : shares.data() + ((part - 1) * videos + video) * size;
      SumVideo(bytes, offsets[video], offsets[video + 1] - offsets[video], panels, s, s.groups * part / parts, s.groups * (part + 1) / parts, scratch,
               mass + video * s.groups * s.clusters, into);
    }
  });
  for (int64_t part = 1; part < parts; part++) {
    const float* share = shares.data() + (part - 1) * videos * size;
    for (int64_t i = 0; i < videos * size; i++) sums[i] += share[i];
  }
}

}  // namespace

std::string RegisterFrames() {
  return Register<Frames>("NextvladFrames",
                          {"bytes: float", "frame_counts: int32", "clusters: float", "attention: float", "expansion: float", "sizes: int32"},
                          {"sums: float", "mass: float"});
}

}  // namespace nextvlad
