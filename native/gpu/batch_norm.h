// The parts of a batch norm over rows, which soft assignment uses too.
#pragma once

#include "gpu_call.h"

namespace nextvlad::gpu {

// A batch's statistics, `columns` values each.
struct Statistics {
  float *mean, *variance, *inverse;
  float* factor;  // scale inverse
};

// Values per column of moments: a number of rows, their mean, and the sum of their squared differences from it.
constexpr int64_t kMoments = 3;

// The number of parts into which PartialMoments divides rows.
int64_t MomentChunks(int64_t rows);

// Computes the moments of the columns of x [rows, columns], of each part of the rows: [MomentChunks(rows), columns, 3].
void PartialMoments(GpuCall& call, const float* x, int64_t rows, int64_t columns, float* moments);

// Computes mean, biased variance, inverse = 1 / sqrt(variance + epsilon) and factor of each column, from moments [parts, columns, 3].
void MergeMoments(GpuCall& call, const float* moments, int64_t parts, int64_t columns, const float* scale, const float* epsilon, const Statistics& statistics);

// Computes the gradients of scale and shift [columns] from parts [chunks, 2, columns] of their sums.
void SumGradients(GpuCall& call, const float* parts, int64_t chunks, int64_t columns, float* dscale, float* dshift);

// Computes the gradient of x [rows, columns] from dy, that of the normalized x, and the gradients of scale and shift over `all_rows` rows.
void NormalizeBackward(GpuCall& call, const float* dy, const float* x, const float* mean, const float* inverse, const float* scale, const float* dscale,
                       const float* dshift, int64_t rows, int64_t columns, int64_t all_rows, float* dx);

}  // namespace nextvlad::gpu
