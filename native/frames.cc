// From bytes to each video's sums in one kernel, with frozen weights. For one group at a time, the cluster logits, their softmax, x1 and its sums over frames
// stay in the L2 cache; nothing of the size of a batch's frames is ever written.
#include <vector>

#include "kernel.h"
#include "kernels.h"
#include "panels.h"
#include "parallel.h"
#include "register_tile.h"
#include "softmax.h"

namespace nextvlad {
namespace {

constexpr int64_t kChunk = kByteInstructions ? 320 : 12 * kFloatTileRows;  // frames whose features, and values of one group, fit the L2 cache
constexpr int64_t kMaxChunk = kChunk + kFloatTileRows;
constexpr int64_t kSumChunk = 64;  // frames whose assignments fit the L1 cache
constexpr int kSumRows = 4;        // of a tile of sums; divides kLanes, to which P is padded

struct Sizes {
  int64_t features, groups, clusters, group_size;
  PanelShape shape;
  int64_t padded_clusters() const { return RoundUp(clusters, kLanes); }
  int64_t padded_group() const { return RoundUp(group_size, kLanes); }
};

struct Panels {
  const float *clusters, *alpha, *expansion;
};

// One thread's memory.
struct Scratch {
  explicit Scratch(const Sizes& s)
      : alpha(kMaxChunk * RoundUp(s.groups, kLanes)), assignment(kMaxChunk * s.padded_clusters()), x1(kMaxChunk * s.padded_group()),
        sums(s.padded_group() * s.padded_clusters()), features(s.shape) {}
  Floats alpha, assignment, x1, sums;
  FeatureRows features;
};

// sums[p, k] += sum over frames of x1[t, p] a[t, k] for kSumRows p's and kVectors vectors of k's. x1 is [frames, kLanes]; the rows of a and sums are `stride`
// apart.
template <int kVectors>
void AddTile(const float* x1, const float* a, int64_t frames, int64_t stride, float* sums) {
  RegisterTile<kSumRows, kVectors> tile;
  tile.Load(sums, stride);
  tile.MultiplyAdd(x1, kLanes, 1, a, stride, frames);
  tile.Store(sums, stride);
}

// Adds one group of a chunk of a video's frames to scratch.sums and to the group's a_sum.
void AddGroup(int64_t frames, const Panels& panels, const Sizes& s, int64_t group, Scratch& scratch, float* a_sum) {
  const int64_t clusters = s.padded_clusters(), panel_floats = s.shape.floats();
  float* a = scratch.assignment.data();
  for (int64_t k = 0; k < clusters; k += kLanes) {
    scratch.features.Multiply(panels.clusters + (group * clusters + k) / kLanes * panel_floats, a + k, clusters);
  }
  const float* alpha = scratch.alpha.data() + group / kLanes * frames * kLanes + group % kLanes;
  for (int64_t t = 0; t < frames; t++) {
    AssignClusters(a + t * clusters, s.clusters, Sigmoid(alpha[t * kLanes]), a_sum);
    for (int64_t k = s.clusters; k < clusters; k++) a[t * clusters + k] = 0;
  }
  for (int64_t p = 0; p < s.padded_group(); p += kLanes) {
    float* x1 = scratch.x1.data() + p * frames;
    scratch.features.Multiply(panels.expansion + (group * s.padded_group() + p) / kLanes * panel_floats, x1, kLanes);
  }
  for (int64_t begin = 0; begin < frames; begin += kSumChunk) {
    const int64_t count = std::min(kSumChunk, frames - begin);
    for (int64_t k = 0; k < clusters;) {
      const bool is_full = clusters - k >= kTileColumns;
      for (int64_t p = 0; p < s.padded_group(); p += kSumRows) {
        const float* x1 = scratch.x1.data() + p / kLanes * kLanes * frames + begin * kLanes + p % kLanes;
        float* sums = scratch.sums.data() + p * clusters + k;
        if (is_full) {
          AddTile<kTileVectors>(x1, a + begin * clusters + k, count, clusters, sums);
        } else {
          AddTile<kLanes / kSimdLanes>(x1, a + begin * clusters + k, count, clusters, sums);
        }
      }
      k += is_full ? kTileColumns : kLanes;
    }
  }
}

// Groups [first, last) of one video: its sums [P, K], and these groups' a_sum [K] each.
void SumVideo(const uint8_t* bytes, int64_t frames, const Panels& panels, const Sizes& s, int64_t first, int64_t last, Scratch& scratch, float* a_sum,
              float* sums) {
  std::fill(scratch.sums.begin(), scratch.sums.end(), 0.0f);
  std::fill(a_sum + first * s.clusters, a_sum + last * s.clusters, 0.0f);
  // Chunks of about the same size, and of whole tiles: each reads all panels.
  const int64_t chunks = (frames + kChunk - 1) / kChunk, chunk = RoundUp((frames + chunks - 1) / chunks, kFloatTileRows);
  for (int64_t begin = 0; begin < frames; begin += chunk) {
    const int64_t count = std::min(chunk, frames - begin);
    scratch.features.Set(bytes + begin * s.features, count);
    for (int64_t g = 0; g < s.groups; g += kLanes) {
      scratch.features.Multiply(panels.alpha + g / kLanes * s.shape.floats(), scratch.alpha.data() + g * count, kLanes);
    }
    for (int64_t g = first; g < last; g++) AddGroup(count, panels, s, g, scratch, a_sum + g * s.clusters);
  }
  for (int64_t p = 0; p < s.group_size; p++) {
    std::memcpy(sums + p * s.clusters, scratch.sums.data() + p * s.padded_clusters(), s.clusters * sizeof(float));
  }
}

// Inputs: bytes (uint8, packed four to a float), frame counts [B], panels (split.cc) of the normalized cluster logits (each group padded), of alpha and of x1
// (each group padded), and [features, groups, clusters, group size, terms].
// Outputs: the sum over frames and groups of assignment times x1 [B, P, K], and the assignment's sum over frames [B, G K].
void Frames(Call& call) {
  const int32_t* n = call.Sizes(5, 5);
  const Sizes s{n[0], n[1], n[2], n[3], ShapeOfPanels(n[0], n[4])};
  const int64_t floats = s.shape.floats() / kLanes;
  call.ExpectCount(2, s.groups * s.padded_clusters() * floats);
  call.ExpectCount(3, RoundUp(s.groups, kLanes) * floats);
  call.ExpectCount(4, s.groups * s.padded_group() * floats);
  const std::vector<int32_t> offsets = call.Offsets(1);
  const int64_t videos = offsets.size() - 1;
  const uint8_t* bytes = call.Bytes(0, offsets[videos] * s.features);
  const Panels panels{call.Input<float>(2), call.Input<float>(3), call.Input<float>(4)};
  float* sums = call.Output(0, {videos, s.group_size, s.clusters});
  float* a_sum = call.Output(1, {videos, s.groups * s.clusters});

  // If there are few videos, their groups are split into parts, so that all cores have work. The parts are added in order.
  const int threads = Pool::Shared().threads();
  const int64_t parts = videos >= 4 * threads ? 1 : std::min<int64_t>(s.groups, threads);
  const int64_t size = s.group_size * s.clusters;
  std::vector<float> further_parts((parts - 1) * videos * size);
  ForEachItem(videos * parts, [&](const auto& next) {
    Scratch scratch(s);
    for (int64_t item; next(&item);) {
      const int64_t video = item / parts, part = item % parts;
      float* to = part == 0 ? sums + video * size : further_parts.data() + ((part - 1) * videos + video) * size;
      SumVideo(bytes + offsets[video] * s.features, offsets[video + 1] - offsets[video], panels, s, s.groups * part / parts, s.groups * (part + 1) / parts,
               scratch, a_sum + video * s.groups * s.clusters, to);
    }
  });
  for (int64_t part = 1; part < parts; part++) {
    const float* values = further_parts.data() + (part - 1) * videos * size;
    for (int64_t i = 0; i < videos * size; i++) sums[i] += values[i];
  }
}

}  // namespace

std::string RegisterFrames() {
  return Register<Frames>("NextvladFrames", {"bytes: float", "frame_counts: int32", "clusters: float", "alpha: float", "expansion: float", "sizes: int32"},
                          {"sums: float", "a_sum: float"});
}

}  // namespace nextvlad
