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

constexpr int64_t kChunk = RoundUp(kByteInstructions ? 320 : 150, kFloatTileRows);  // frames whose features, and values of one group, fit the L2 cache
constexpr int64_t kSumChunk = 64;  // frames whose assignments fit the L1 cache
constexpr int kSumRows = 4;        // of a tile of sums; divides kLanes, to which P is padded

struct Sizes {
  int64_t features, groups, clusters, group_size;
  PanelShape shape;
  int64_t padded_clusters() const { return RoundUp(clusters, kLanes); }
  int64_t padded_group() const { return RoundUp(group_size, kLanes); }
  // The distance of a frame's rows of assignment: with a power of two, all rows would map to the same few lines of the L1 cache.
  int64_t assignment_stride() const { return padded_clusters() + kLanes; }
  int64_t tiled_clusters() const { return RoundUp(clusters, kFloatTileRows); }
  // A group's sums over frames of a x1 are also the sums of a x, times the expansion. For long videos of floats that takes fewer products.
  bool SumsFeaturesFirst(int64_t frames) const {
    return shape.is_float() && frames * (features + clusters) * group_size > clusters * features * (frames + group_size);
  }
};

struct Panels {
  const float *clusters, *alpha, *expansion;
};

// One thread's memory.
struct Scratch {
  explicit Scratch(const Sizes& s)
      : assignment((kChunk + 1) * s.assignment_stride()), x1(kChunk * s.padded_group()), sums(s.padded_group() * s.padded_clusters()), features(s.shape) {}
  Floats alpha, assignment, x1, sums;
  Floats feature_sums;   // of a group, blocks [features / 16][tiled clusters][16]
  Floats expanded_sums;  // of a video, [padded group / 16][tiled clusters][16]
  FeatureRows features;
};

// sums[p, k] += sum over frames of x1[t, p] a[t, k] for kSumRows p's and kVectors vectors of k's. x1 is [frames, kLanes]; the rows of sums are `stride` apart.
template <int kVectors>
void AddTile(const float* x1, const float* a, int64_t a_stride, int64_t frames, int64_t stride, float* sums) {
  RegisterTile<kSumRows, kVectors> tile;
  tile.Load(sums, stride);
  tile.MultiplyAdd(x1, kLanes, 1, a, a_stride, frames);
  tile.Store(sums, stride);
}

// Computes a chunk's assignment for one group, and adds it to the group's a_sum.
void Assign(int64_t first, int64_t frames, const Panels& panels, const Sizes& s, int64_t group, int64_t alpha_stride, Scratch& scratch, float* a_sum) {
  const int64_t clusters = s.padded_clusters(), stride = s.assignment_stride();
  float* a = scratch.assignment.data();
  scratch.features.Multiply(first, frames, panels.clusters + group * clusters / kLanes * s.shape.floats(), clusters / kLanes, {a, kLanes, stride});
  const float* alpha = scratch.alpha.data() + (group / kLanes * alpha_stride + first) * kLanes + group % kLanes;
  for (int64_t t = 0; t < frames; t++) {
    AssignClusters(a + t * stride, s.clusters, Sigmoid(alpha[t * kLanes]), a_sum);
    for (int64_t k = s.clusters; k < clusters; k++) a[t * stride + k] = 0;
  }
}

// Adds a chunk's products of x1 and the assignment of one group to scratch.sums.
void AddExpanded(int64_t first, int64_t frames, const Panels& panels, const Sizes& s, int64_t group, Scratch& scratch) {
  const int64_t clusters = s.padded_clusters(), stride = s.assignment_stride(), x1_stride = RoundUp(frames, kFloatTileRows);
  const float* a = scratch.assignment.data();
  scratch.features.Multiply(first, frames, panels.expansion + group * s.padded_group() / kLanes * s.shape.floats(), s.padded_group() / kLanes,
                            {scratch.x1.data(), x1_stride * kLanes, kLanes});
  for (int64_t begin = 0; begin < frames; begin += kSumChunk) {
    const int64_t count = std::min(kSumChunk, frames - begin);
    for (int64_t k = 0; k < clusters;) {
      const bool is_full = clusters - k >= kTileColumns;
      for (int64_t p = 0; p < s.padded_group(); p += kSumRows) {
        const float* x1 = scratch.x1.data() + (p / kLanes * x1_stride + begin) * kLanes + p % kLanes;
        float* sums = scratch.sums.data() + p * clusters + k;
        if (is_full) {
          AddTile<kTileVectors>(x1, a + begin * stride + k, stride, count, clusters, sums);
        } else {
          AddTile<kLanes / kSimdLanes>(x1, a + begin * stride + k, stride, count, clusters, sums);
        }
      }
      k += is_full ? kTileColumns : kLanes;
    }
  }
}

// sums [kFloatTileRows, 16] += the sum over frames of a [frames, kFloatTileRows] and x [frames, 16]. Not inlined for MultiplyFloatTile's reason.
[[gnu::noinline]] void AddFeatureTile(const float* a, int64_t a_stride, const float* x, int64_t frames, float* sums) {
  FloatTile tile;
  tile.Load(sums, kLanes);
  tile.MultiplyAdd(a, a_stride, 1, x, kLanes, frames);
  tile.Store(sums, kLanes);
}

// Adds a chunk's products of features and the assignment of one group to scratch.feature_sums. A tile's rows past the last cluster hold values that nothing
// reads.
void AddFeatures(int64_t first, int64_t frames, const Sizes& s, Scratch& scratch) {
  const FloatBlocks x = scratch.features.blocks();
  for (int64_t f = 0; f < s.features; f += kLanes) {
    for (int64_t k = 0; k < s.clusters; k += kFloatTileRows) {
      AddFeatureTile(scratch.assignment.data() + k, s.assignment_stride(), x.at(f, first), frames,
                     scratch.feature_sums.data() + (f / kLanes * s.tiled_clusters() + k) * kLanes);
    }
  }
}

// Adds the product of a group's feature_sums and its expansion to scratch.expanded_sums.
void ExpandFeatures(const Panels& panels, const Sizes& s, int64_t group, const float* a_sum, Scratch& scratch) {
  const int64_t panel_floats = s.shape.floats();
  const float* expansion = panels.expansion + group * s.padded_group() / kLanes * panel_floats;
  const FloatBlocks sums{scratch.feature_sums.data(), s.tiled_clusters(), s.features};
  float* expanded = scratch.expanded_sums.data();
  MultiplyFloats<true>(sums, 0, s.clusters, expansion, s.padded_group() / kLanes, {expanded, s.tiled_clusters() * kLanes, kLanes});
  for (int64_t p = 0; p < s.padded_group() / kLanes; p++) {
    for (int64_t k = 0; k < s.clusters; k++) {
      float* to = expanded + (p * s.tiled_clusters() + k) * kLanes;
      for (int i = 0; i < kLanes; i++) to[i] += a_sum[k] * expansion[p * panel_floats + i];
    }
  }
}

// Groups [first, last) of one video: its sums [P, K], and these groups' a_sum [K] each.
void SumVideo(const uint8_t* bytes, int64_t frames, const Panels& panels, const Sizes& s, int64_t first, int64_t last, Scratch& scratch, float* a_sum,
              float* sums) {
  const bool features_first = s.SumsFeaturesFirst(frames);
  if (features_first) {
    scratch.expanded_sums.assign(s.padded_group() * s.tiled_clusters(), 0.0f);
  } else {
    std::fill(scratch.sums.begin(), scratch.sums.end(), 0.0f);
  }
  std::fill(a_sum + first * s.clusters, a_sum + last * s.clusters, 0.0f);
  scratch.features.Set(bytes, frames);
  const int64_t alpha_stride = RoundUp(frames, kFloatTileRows), alpha_panels = RoundUp(s.groups, kLanes) / kLanes;
  scratch.alpha.resize(alpha_panels * alpha_stride * kLanes);
  scratch.features.Multiply(0, frames, panels.alpha, alpha_panels, {scratch.alpha.data(), alpha_stride * kLanes, kLanes});
  // Chunks of about the same size, and of whole tiles: each reads all panels.
  const int64_t chunks = (frames + kChunk - 1) / kChunk, chunk = chunks == 0 ? 0 : RoundUp((frames + chunks - 1) / chunks, kFloatTileRows);
  for (int64_t g = first; g < last; g++) {
    if (features_first) scratch.feature_sums.assign(RoundUp(s.features, kLanes) * s.tiled_clusters(), 0.0f);
    for (int64_t begin = 0; begin < frames; begin += chunk) {
      const int64_t count = std::min(chunk, frames - begin);
      Assign(begin, count, panels, s, g, alpha_stride, scratch, a_sum + g * s.clusters);
      if (features_first) {
        AddFeatures(begin, count, s, scratch);
      } else {
        AddExpanded(begin, count, panels, s, g, scratch);
      }
    }
    if (features_first) ExpandFeatures(panels, s, g, a_sum + g * s.clusters, scratch);
  }
  for (int64_t p = 0; p < s.group_size; p++) {
    if (features_first) {
      for (int64_t k = 0; k < s.clusters; k++) sums[p * s.clusters + k] = scratch.expanded_sums[(p / kLanes * s.tiled_clusters() + k) * kLanes + p % kLanes];
    } else {
      std::memcpy(sums + p * s.clusters, scratch.sums.data() + p * s.padded_clusters(), s.clusters * sizeof(float));
    }
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
