// From bytes to each video's descriptor in one kernel, with frozen weights. For one group at a time, the cluster logits, their softmax, x1 and its sums over
// frames stay in the L2 cache; nothing of the size of a batch's frames is ever written.
#include <cmath>
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
// Frames of short videos that are multiplied together: a product of few frames would take longer to read the panels than to multiply, and waste rows of a tile.
constexpr int64_t kJoinedFrames = 60;
static_assert(kJoinedFrames <= kChunk);
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

// Centers [P, K], and the batch norm of the descriptor, [P K] each.
struct Norm {
  const float *centers, *scale, *shift;
  float epsilon;
};

// Consecutive videos: one, or several whose frames are one chunk. offsets [count + 1] are the first frames of each, and the end of the last.
struct Videos {
  const int32_t* offsets;
  int64_t count;
  int64_t frames() const { return offsets[count] - offsets[0]; }
  // Calls body(video, begin, end) with the frames of each video in the chunk [begin, end) of the frames of all.
  template <class Body>
  void ForEachIn(int64_t begin, int64_t end, const Body& body) const {
    for (int64_t v = 0; v < count; v++) {
      body(v, std::max<int64_t>(begin, offsets[v] - offsets[0]), std::min<int64_t>(end, offsets[v + 1] - offsets[0]));
    }
  }
};

// One thread's memory.
struct Scratch {
  explicit Scratch(const Sizes& s) : assignment((kChunk + 1) * s.assignment_stride(), 0.0f), x1(kChunk * s.padded_group(), 0.0f), features(s.shape) {}
  Floats alpha, assignment, x1;
  Floats sums;           // of the videos, [padded group][padded clusters] each
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

// Computes a chunk's assignment for one group, and adds it to the group's a_sum of each video, which are `a_sum_stride` apart.
void Assign(int64_t first, int64_t frames, const Panels& panels, const Sizes& s, int64_t group, int64_t alpha_stride, const Videos& videos, Scratch& scratch,
            float* a_sum) {
  const int64_t clusters = s.padded_clusters(), stride = s.assignment_stride();
  float* a = scratch.assignment.data();
  scratch.features.Multiply(first, frames, panels.clusters + group * clusters / kLanes * s.shape.floats(), clusters / kLanes, {a, kLanes, stride});
  const float* alpha = scratch.alpha.data() + group / kLanes * alpha_stride * kLanes + group % kLanes;
  videos.ForEachIn(first, first + frames, [&](int64_t video, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      float* row = a + (t - first) * stride;
      AssignClusters(row, s.clusters, Sigmoid(alpha[t * kLanes]), a_sum + video * s.groups * s.clusters);
      for (int64_t k = s.clusters; k < clusters; k++) row[k] = 0;
    }
  });
}

// Adds the products of x1 and the assignment of one group over frames [first, last) of a chunk to a video's sums.
void AddProducts(int64_t first, int64_t last, int64_t x1_stride, const Sizes& s, const Scratch& scratch, float* sums) {
  const int64_t clusters = s.padded_clusters(), stride = s.assignment_stride();
  for (int64_t begin = first; begin < last; begin += kSumChunk) {
    const int64_t count = std::min(kSumChunk, last - begin);
    const float* a = scratch.assignment.data() + begin * stride;
    for (int64_t k = 0; k < clusters;) {
      const bool is_full = clusters - k >= kTileColumns;
      for (int64_t p = 0; p < s.padded_group(); p += kSumRows) {
        const float* x1 = scratch.x1.data() + (p / kLanes * x1_stride + begin) * kLanes + p % kLanes;
        float* to = sums + p * clusters + k;
        if (is_full) {
          AddTile<kTileVectors>(x1, a + k, stride, count, clusters, to);
        } else {
          AddTile<kLanes / kSimdLanes>(x1, a + k, stride, count, clusters, to);
        }
      }
      k += is_full ? kTileColumns : kLanes;
    }
  }
}

// Adds a chunk's products of x1 and the assignment of one group to scratch.sums.
void AddExpanded(int64_t first, int64_t frames, const Panels& panels, const Sizes& s, int64_t group, const Videos& videos, Scratch& scratch) {
  const int64_t x1_stride = RoundUp(frames, kFloatTileRows), size = s.padded_group() * s.padded_clusters();
  scratch.features.Multiply(first, frames, panels.expansion + group * s.padded_group() / kLanes * s.shape.floats(), s.padded_group() / kLanes,
                            {scratch.x1.data(), x1_stride * kLanes, kLanes});
  videos.ForEachIn(first, first + frames, [&](int64_t video, int64_t begin, int64_t end) {
    AddProducts(begin - first, end - first, x1_stride, s, scratch, scratch.sums.data() + video * size);
  });
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

// Groups [first, last) of videos: their sums [P, K] each, and these groups' a_sum [K] of a_sum [G K] each.
void SumVideos(const uint8_t* bytes, const Videos& videos, const Panels& panels, const Sizes& s, int64_t first, int64_t last, Scratch& scratch, float* a_sum,
               float* sums) {
  const int64_t frames = videos.frames();
  const bool features_first = videos.count == 1 && s.SumsFeaturesFirst(frames);
  if (features_first) {
    scratch.expanded_sums.assign(s.padded_group() * s.tiled_clusters(), 0.0f);
  } else {
    scratch.sums.assign(videos.count * s.padded_group() * s.padded_clusters(), 0.0f);
  }
  for (int64_t v = 0; v < videos.count; v++) std::fill(a_sum + (v * s.groups + first) * s.clusters, a_sum + (v * s.groups + last) * s.clusters, 0.0f);
  scratch.features.Set(bytes + videos.offsets[0] * s.features, frames);
  const int64_t alpha_stride = RoundUp(frames, kFloatTileRows), alpha_panels = RoundUp(s.groups, kLanes) / kLanes;
  scratch.alpha.resize(alpha_panels * alpha_stride * kLanes, 0.0f);
  scratch.features.Multiply(0, frames, panels.alpha, alpha_panels, {scratch.alpha.data(), alpha_stride * kLanes, kLanes});
  // Chunks of about the same size, and of whole tiles: each reads all panels.
  const int64_t chunks = (frames + kChunk - 1) / kChunk, chunk = chunks == 0 ? 0 : RoundUp((frames + chunks - 1) / chunks, kFloatTileRows);
  for (int64_t g = first; g < last; g++) {
    if (features_first) scratch.feature_sums.assign(RoundUp(s.features, kLanes) * s.tiled_clusters(), 0.0f);
    for (int64_t begin = 0; begin < frames; begin += chunk) {
      const int64_t count = std::min(chunk, frames - begin);
      Assign(begin, count, panels, s, g, alpha_stride, videos, scratch, a_sum + g * s.clusters);
      if (features_first) {
        AddFeatures(begin, count, s, scratch);
      } else {
        AddExpanded(begin, count, panels, s, g, videos, scratch);
      }
    }
    if (features_first) ExpandFeatures(panels, s, g, a_sum + g * s.clusters, scratch);
  }
  for (int64_t row = 0; row < videos.count * s.group_size; row++, sums += s.clusters) {
    const int64_t video = row / s.group_size, p = row % s.group_size;
    if (features_first) {
      for (int64_t k = 0; k < s.clusters; k++) sums[k] = scratch.expanded_sums[(p / kLanes * s.tiled_clusters() + k) * kLanes + p % kLanes];
    } else {
      std::memcpy(sums, scratch.sums.data() + (video * s.padded_group() + p) * s.padded_clusters(), s.clusters * sizeof(float));
    }
  }
}

// Replaces a video's sums [P, K] by its descriptor: subtracts the centers, scales each cluster's part to length 1, and applies the batch norm.
void Describe(const float* a_sum, const Norm& norm, const Sizes& s, float* sums) {
  const int64_t clusters = s.clusters;
  Floats total(clusters, 0.0f), squares(clusters, 0.0f);
  for (int64_t g = 0; g < s.groups; g++) {
#pragma omp simd
    for (int64_t k = 0; k < clusters; k++) total[k] += a_sum[g * clusters + k];
  }
  for (int64_t p = 0; p < s.group_size; p++) {
    float* v = sums + p * clusters;
    const float* c = norm.centers + p * clusters;
#pragma omp simd
    for (int64_t k = 0; k < clusters; k++) {
      v[k] -= total[k] * c[k];
      squares[k] += v[k] * v[k];
    }
  }
  for (int64_t k = 0; k < clusters; k++) squares[k] = 1 / std::sqrt(squares[k] + norm.epsilon);
  for (int64_t p = 0; p < s.group_size; p++) {
    float* v = sums + p * clusters;
    const float *scale = norm.scale + p * clusters, *shift = norm.shift + p * clusters;
#pragma omp simd
    for (int64_t k = 0; k < clusters; k++) v[k] = v[k] * squares[k] * scale[k] + shift[k];
  }
}

// Splits videos into items of about the same work: of one video, or of several short ones.
std::vector<Videos> JoinShortVideos(const std::vector<int32_t>& offsets, const Sizes& s, int64_t max_frames) {
  std::vector<Videos> items;
  for (size_t video = 0; video + 1 < offsets.size(); video++) {
    const int64_t frames = offsets[video + 1] - offsets[video];
    const bool joins = !items.empty() && items.back().frames() + frames <= max_frames && !s.SumsFeaturesFirst(frames) && !s.SumsFeaturesFirst(items.back().frames());
    if (joins) {
      items.back().count++;
    } else {
      items.push_back({offsets.data() + video, 1});
    }
  }
  return items;
}

// Inputs: bytes (uint8, packed four to a float), frame counts [B], panels (split.cc) of the normalized cluster logits (each group padded), of alpha and of x1
// (each group padded), centers [P, K], the scale and the shift of the descriptor [P K], epsilon [], and [features, groups, clusters, group size, terms].
// Output: the descriptors [B, P K].
void Frames(Call& call) {
  const int32_t* n = call.Sizes(9, 5);
  const Sizes s{n[0], n[1], n[2], n[3], ShapeOfPanels(n[0], n[4])};
  const int64_t floats = s.shape.floats() / kLanes, size = s.group_size * s.clusters;
  call.ExpectCount(2, s.groups * s.padded_clusters() * floats);
  call.ExpectCount(3, RoundUp(s.groups, kLanes) * floats);
  call.ExpectCount(4, s.groups * s.padded_group() * floats);
  call.Expect(5, {s.group_size, s.clusters});
  for (int i = 6; i <= 7; i++) call.Expect(i, {size});
  call.ExpectCount(8, 1);
  const std::vector<int32_t> offsets = call.Offsets(1);
  const int64_t videos = offsets.size() - 1, a_sum_size = s.groups * s.clusters;
  const uint8_t* bytes = call.Bytes(0, offsets[videos] * s.features);
  const Panels panels{call.Input<float>(2), call.Input<float>(3), call.Input<float>(4)};
  const Norm norm{call.Input<float>(5), call.Input<float>(6), call.Input<float>(7), *call.Input<float>(8)};
  float* descriptors = call.Output(0, {videos, size});
  float* a_sum = call.Temporary(videos * a_sum_size);

  // If there are few videos, their groups are split into parts, so that all cores have work. The parts are added in order.
  const int threads = Pool::Shared().threads();
  const int64_t parts = videos >= 4 * threads ? 1 : std::min<int64_t>(s.groups, threads);
  const std::vector<Videos> items = JoinShortVideos(offsets, s, parts > 1 ? 0 : std::min<int64_t>(kJoinedFrames, offsets[videos] / (4 * threads)));
  std::vector<float> further_parts((parts - 1) * videos * size);
  ForEachItem(items.size() * parts, [&](const auto& next) {
    Scratch scratch(s);
    for (int64_t item; next(&item);) {
      const Videos& of_item = items[item / parts];
      const int64_t first = of_item.offsets - offsets.data(), part = item % parts;
      float* sums = (part == 0 ? descriptors : further_parts.data() + (part - 1) * videos * size) + first * size;
      SumVideos(bytes, of_item, panels, s, s.groups * part / parts, s.groups * (part + 1) / parts, scratch, a_sum + first * a_sum_size, sums);
      for (int64_t v = 0; parts == 1 && v < of_item.count; v++) Describe(a_sum + (first + v) * a_sum_size, norm, s, sums + v * size);
    }
  });
  for (int64_t video = 0; parts > 1 && video < videos; video++) {
    float* sums = descriptors + video * size;
    for (int64_t part = 1; part < parts; part++) {
      const float* values = further_parts.data() + ((part - 1) * videos + video) * size;
      for (int64_t i = 0; i < size; i++) sums[i] += values[i];
    }
    Describe(a_sum + video * a_sum_size, norm, s, sums);
  }
}

}  // namespace

std::string RegisterFrames() {
  return Register<Frames>("NextvladFrames",
                          {"bytes: float", "frame_counts: int32", "clusters: float", "alpha: float", "expansion: float", "centers: float", "scale: float",
                           "shift: float", "epsilon: float", "sizes: int32"},
                          {"descriptors: float"});
}

}  // namespace nextvlad
