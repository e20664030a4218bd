// Soft assignment and its gradient in a minimum of passes over memory: batch norm, softmax over clusters, and the attention of each group.
// For N frames: z [N, G K], alpha [N, G] (the attention before its sigmoid), assignment [N G, K]. The frames of a batch's videos are contiguous.
#include <cmath>
#include <cstring>
#include <vector>

#include "kernel.h"
#include "kernels.h"
#include "parallel.h"
#include "softmax.h"

namespace nextvlad {
namespace {

// Column sums, accurate for any number of rows: in float over runs of 32 rows, and in double over the runs.
class ColumnSums {
 public:
  explicit ColumnSums(int64_t columns) : total_(columns, 0.0), run_(columns, 0.0f) {}
  float* run() { return run_.data(); }
  void EndRow() {
    if (++rows_ == kRun) Flush();
  }
  const std::vector<double>& Total() {
    Flush();
    return total_;
  }

 private:
  static constexpr int kRun = 32;
  void Flush() {
    for (size_t c = 0; c < total_.size(); c++) total_[c] += run_[c];
    std::fill(run_.begin(), run_.end(), 0.0f);
    rows_ = 0;
  }
  std::vector<double> total_;
  std::vector<float> run_;
  int rows_ = 0;
};

// The sizes of a batch, from z [N, G K], a tensor [N, G] and the frame counts [B].
struct Batch {
  int64_t frames, columns, groups, clusters, videos;
  std::vector<int32_t> video;  // of each frame

  Batch(Call& call, int z, int per_group, int frame_counts) {
    const auto shape = call.Expect(z, {Call::kAny, Call::kAny});
    frames = shape[0], columns = shape[1];
    groups = call.Expect(per_group, {frames, Call::kAny})[1];
    Call::Require(frames > 0, "the batch has no frames");
    Call::Require(groups > 0 && columns % groups == 0, std::to_string(columns) + " columns do not split into " + std::to_string(groups) + " groups");
    clusters = columns / groups;
    const std::vector<int32_t> offsets = call.Offsets(frame_counts, frames);
    videos = offsets.size() - 1;
    for (int64_t v = 0; v < videos; v++) video.insert(video.end(), offsets[v + 1] - offsets[v], static_cast<int32_t>(v));
  }
};

// Values per column of moments: a number of rows, their mean, and the sum of their squared differences from it.
constexpr int64_t kMoments = 3;

// Input: z [rows, columns]. Output: its moments [1, columns, 3]. The sums are of differences to the first row, so that a mean far from zero costs no precision.
void ComputeMoments(Call& call) {
  const auto shape = call.Expect(0, {Call::kAny, Call::kAny});
  const int64_t rows = shape[0], columns = shape[1];
  Call::Require(rows > 0, "the batch has no rows");
  const float* z = call.Input<float>(0);
  float* moments = call.Output(0, {1, columns, kMoments});
  const int threads = Pool::Shared().threads();
  std::vector<std::vector<double>> sums(threads), squares(threads);
  ParallelFor(rows, [&](int64_t begin, int64_t end, int piece) {
    ColumnSums sum(columns), square(columns);
    float* s = sum.run();
    float* q = square.run();
    for (int64_t t = begin; t < end; t++) {
      const float* row = z + t * columns;
#pragma omp simd
      for (int64_t c = 0; c < columns; c++) {
        const float d = row[c] - z[c];
        s[c] += d;
        q[c] += d * d;
      }
      sum.EndRow();
      square.EndRow();
    }
    sums[piece] = sum.Total();
    squares[piece] = square.Total();
  });
  for (int64_t c = 0; c < columns; c++) {
    double s = 0, q = 0;
    for (int piece = 0; piece < threads; piece++) {
      s += sums[piece][c];
      q += squares[piece][c];
    }
    float* of_column = moments + c * kMoments;
    of_column[0] = rows;
    of_column[1] = z[c] + s / rows;
    of_column[2] = std::max(0.0, q - s * s / rows);
  }
}

// The mean and biased variance of a column, from the moments of parts of its rows, `stride` values apart (Chan, Golub and LeVeque 1979).
void MergeMoments(const float* moments, int64_t parts, int64_t stride, double* mean, double* variance) {
  double rows = 0, squares = 0;
  *mean = 0;
  for (int64_t part = 0; part < parts; part++, moments += stride) {
    const double added = moments[0], delta = moments[1] - *mean;
    if (added == 0) continue;
    squares += moments[2] + delta * delta * rows * added / (rows + added);
    rows += added;
    *mean += delta * added / rows;
  }
  *variance = squares / rows;
}

// assignment = softmax(z scale + shift) * attention, and a_sum, its sum over each video's frames.
void AssignRows(const float* z, const float* attention, const float* scale, const float* shift, const std::vector<int32_t>& video, int64_t groups,
                int64_t clusters, int64_t videos, float* assignment, float* a_sum) {
  const int64_t columns = groups * clusters;
  const int64_t frames = video.size();
  const int threads = Pool::Shared().threads();
  std::memset(a_sum, 0, videos * columns * sizeof(float));
  // A piece's first video may begin in the piece before it, so its sums are kept apart until all pieces are done.
  std::vector<std::vector<float>> first_sums(threads, std::vector<float>(columns, 0.0f));
  ParallelFor(frames, [&](int64_t begin, int64_t end, int piece) {
    for (int64_t t = begin; t < end; t++) {
      float* sums = video[t] == video[begin] ? first_sums[piece].data() : a_sum + video[t] * columns;
      for (int64_t g = 0; g < groups; g++) {
        const int64_t at = g * clusters;
        const float* logits = z + t * columns + at;
        float* a = assignment + t * columns + at;
#pragma omp simd
        for (int64_t k = 0; k < clusters; k++) a[k] = logits[k] * scale[at + k] + shift[at + k];
        AssignClusters(a, clusters, attention[t * groups + g], sums + at);
      }
    }
  });
  for (int piece = 0; piece < threads; piece++) {
    const int64_t begin = frames * piece / threads;
    if (begin == frames * (piece + 1) / threads) continue;
    float* sums = a_sum + video[begin] * columns;
    for (int64_t c = 0; c < columns; c++) sums[c] += first_sums[piece][c];
  }
}

void SigmoidAll(const float* x, int64_t count, float* y) {
  for (int64_t i = 0; i < count; i++) y[i] = Sigmoid(x[i]);
}

// Inputs: z, alpha, moments of z and of the rest of a batch [parts, G K, 3], scale [G K], shift [G K], frame counts [B], epsilon [].
// Outputs: assignment [N G, K]; attention [N, G]; of the moments the mean, variance (biased) and inverse = 1 / sqrt(variance + epsilon) [G K]; a_sum [B, G K].
void Assign(Call& call) {
  const Batch batch(call, 0, 1, 5);
  const int64_t frames = batch.frames, columns = batch.columns, groups = batch.groups, clusters = batch.clusters, videos = batch.videos;
  const std::vector<int32_t>& video = batch.video;
  const int64_t parts = call.Expect(2, {Call::kAny, columns, kMoments})[0];
  Call::Require(parts > 0, "the batch has no moments");
  for (int i = 3; i <= 4; i++) call.Expect(i, {columns});
  call.ExpectCount(6, 1);
  const float* z = call.Input<float>(0);
  const float* alpha = call.Input<float>(1);
  const float* moments = call.Input<float>(2);
  const float* scale = call.Input<float>(3);
  const float* shift = call.Input<float>(4);
  const float epsilon = *call.Input<float>(6);
  float* assignment = call.Output(0, {frames * groups, clusters});
  float* attention = call.Output(1, {frames, groups});
  float* mean = call.Output(2, {columns});
  float* variance = call.Output(3, {columns});
  float* inverse = call.Output(4, {columns});
  float* a_sum = call.Output(5, {videos, columns});
  std::vector<float> factor(columns), addend(columns);  // the batch norm as z factor + addend
  for (int64_t c = 0; c < columns; c++) {
    double merged_mean, merged_variance;
    MergeMoments(moments + c * kMoments, parts, columns * kMoments, &merged_mean, &merged_variance);
    mean[c] = merged_mean;
    variance[c] = merged_variance;
    const double inverted = 1 / std::sqrt(merged_variance + epsilon);
    inverse[c] = inverted;
    factor[c] = scale[c] * inverted;
    addend[c] = shift[c] - merged_mean * scale[c] * inverted;
  }
  SigmoidAll(alpha, frames * groups, attention);
  AssignRows(z, attention, factor.data(), addend.data(), video, groups, clusters, videos, assignment, a_sum);
}

// Inputs: z, alpha, scale [G K], shift [G K], frame counts [B]. Outputs: assignment [N G, K], a_sum [B, G K].
void AssignFrozen(Call& call) {
  const Batch batch(call, 0, 1, 4);
  const int64_t frames = batch.frames, columns = batch.columns, groups = batch.groups, clusters = batch.clusters, videos = batch.videos;
  const std::vector<int32_t>& video = batch.video;
  for (int i = 2; i <= 3; i++) call.Expect(i, {columns});
  float* assignment = call.Output(0, {frames * groups, clusters});
  float* a_sum = call.Output(1, {videos, columns});
  std::vector<float> attention(frames * groups);
  SigmoidAll(call.Input<float>(1), frames * groups, attention.data());
  AssignRows(call.Input<float>(0), attention.data(), call.Input<float>(2), call.Input<float>(3), video, groups, clusters, videos, assignment, a_sum);
}

// Inputs: the gradients of the assignment [N G, K] and of a_sum [B, G K]; assignment, attention, z, mean and inverse of the forward pass; frame counts [B].
// Outputs: the gradients of the normalized logits [N, G K], alpha [N, G], scale and shift [G K].
void AssignGradient(Call& call) {
  const Batch batch(call, 4, 3, 7);
  const int64_t frames = batch.frames, columns = batch.columns, groups = batch.groups, clusters = batch.clusters, videos = batch.videos;
  const std::vector<int32_t>& video = batch.video;
  for (int i : {0, 2}) call.Expect(i, {frames * groups, clusters});
  call.Expect(1, {videos, columns});
  for (int i = 5; i <= 6; i++) call.Expect(i, {columns});
  const float* dassignment = call.Input<float>(0);
  const float* da_sum = call.Input<float>(1);
  const float* assignment = call.Input<float>(2);
  const float* attention = call.Input<float>(3);
  const float* z = call.Input<float>(4);
  const float* mean = call.Input<float>(5);
  const float* inverse = call.Input<float>(6);
  float* dnormalized = call.Output(0, {frames, columns});
  float* dalpha = call.Output(1, {frames, groups});
  float* dscale = call.Output(2, {columns});
  float* dshift = call.Output(3, {columns});

  const int threads = Pool::Shared().threads();
  std::vector<std::vector<double>> scales(threads), shifts(threads);
  ParallelFor(frames, [&](int64_t begin, int64_t end, int piece) {
    ColumnSums scale_sums(columns), shift_sums(columns);
    float* scale_run = scale_sums.run();
    float* shift_run = shift_sums.run();
    for (int64_t t = begin; t < end; t++) {
      for (int64_t g = 0; g < groups; g++) {
        const int64_t at = t * columns + g * clusters, column = g * clusters;
        const float* da = dassignment + at;
        const float* ds = da_sum + video[t] * columns + column;
        const float* a = assignment + at;
        float* dy = dnormalized + at;  // first the whole gradient of a, then that of the normalized logits
        float dot = 0;        // of the gradient of a and a
#pragma omp simd reduction(+ : dot)
        for (int64_t k = 0; k < clusters; k++) {
          dy[k] = da[k] + ds[k];
          dot += dy[k] * a[k];
        }
        const float sigma = attention[t * groups + g];
        const float mean_da = sigma > 0 ? dot / sigma : 0;  // weighted by the softmax
        dalpha[t * groups + g] = dot * (1 - sigma);
#pragma omp simd
        for (int64_t k = 0; k < clusters; k++) {
          dy[k] = a[k] * (dy[k] - mean_da);
          shift_run[column + k] += dy[k];
          scale_run[column + k] += dy[k] * (z[at + k] - mean[column + k]) * inverse[column + k];
        }
      }
      scale_sums.EndRow();
      shift_sums.EndRow();
    }
    scales[piece] = scale_sums.Total();
    shifts[piece] = shift_sums.Total();
  });
  for (int64_t c = 0; c < columns; c++) {
    double s = 0, h = 0;
    for (int piece = 0; piece < threads; piece++) {
      s += scales[piece][c];
      h += shifts[piece][c];
    }
    dscale[c] = s;
    dshift[c] = h;
  }
}

// Inputs: the gradient of the normalized logits, and z [N, G K]; mean, inverse and scale [G K]; the gradients of scale and shift over the whole batch [G K], and
// the number of its frames []. Output: the gradient of z [N, G K].
void LogitsGradient(Call& call) {
  const auto shape = call.Expect(0, {Call::kAny, Call::kAny});
  const int64_t frames = shape[0], columns = shape[1];
  call.Expect(1, {frames, columns});
  for (int i = 2; i <= 6; i++) call.Expect(i, {columns});
  call.ExpectCount(7, 1);
  const float* dnormalized = call.Input<float>(0);
  const float* z = call.Input<float>(1);
  const float* mean = call.Input<float>(2);
  const float* inverse = call.Input<float>(3);
  const float* scale = call.Input<float>(4);
  const float* dscale = call.Input<float>(5);
  const float* dshift = call.Input<float>(6);
  const double all_frames = *call.Input<int32_t>(7);
  float* dz = call.Output(0, {frames, columns});
  std::vector<float> factor(columns), mean_dy(columns), slope(columns);  // dz = factor (dy - mean_dy - (z - mean) slope)
  for (int64_t c = 0; c < columns; c++) {
    factor[c] = scale[c] * inverse[c];
    mean_dy[c] = dshift[c] / all_frames;
    slope[c] = dscale[c] / all_frames * inverse[c];
  }
  ParallelFor(frames, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; t++) {
      const float* dy = dnormalized + t * columns;
      const float* row = z + t * columns;
      float* d = dz + t * columns;
#pragma omp simd
      for (int64_t c = 0; c < columns; c++) d[c] = factor[c] * (dy[c] - mean_dy[c] - (row[c] - mean[c]) * slope[c]);
    }
  });
}

}  // namespace

std::string RegisterAssignment() {
  std::string problem = Register<ComputeMoments>("NextvladMoments", {"z: float"}, {"moments: float"});
  if (problem.empty()) {
    problem = Register<Assign>("NextvladAssign",
                               {"z: float", "alpha: float", "moments: float", "scale: float", "shift: float", "frame_counts: int32", "epsilon: float"},
                               {"assignment: float", "attention: float", "mean: float", "variance: float", "inverse: float", "a_sum: float"});
  }
  if (problem.empty()) {
    problem = Register<AssignFrozen>("NextvladAssignFrozen", {"z: float", "alpha: float", "scale: float", "shift: float", "frame_counts: int32"},
                                     {"assignment: float", "a_sum: float"});
  }
  if (problem.empty()) {
    problem = Register<AssignGradient>("NextvladAssignGradient",
                                       {"dassignment: float", "da_sum: float", "assignment: float", "attention: float", "z: float", "mean: float",
                                        "inverse: float", "frame_counts: int32"},
                                       {"dnormalized: float", "dalpha: float", "dscale: float", "dshift: float"});
  }
  if (problem.empty()) {
    problem = Register<LogitsGradient>("NextvladLogitsGradient",
                                       {"dnormalized: float", "z: float", "mean: float", "inverse: float", "scale: float", "dscale: float", "dshift: float",
                                        "frames: int32"},
                                       {"dz: float"});
  }
  return problem;
}

}  // namespace nextvlad
