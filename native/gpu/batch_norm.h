// The parts of a batch norm over rows, which the soft assignment has, too.
#pragma once

#include "gpu_call.h"

namespace nextvlad::gpu {

// Where a batch's statistics go, `columns` values each.
struct Statistics {
  float *mean, *variance, *inverse;
  float* factor;  // scale * inverse
};

// Mean, biased variance and 1 / sqrt(variance + epsilon) of each column of x [rows, columns].
void TakeStatistics(GpuCall& call, const float* x, int64_t rows, int64_t columns, const float* scale, const float* epsilon, const Statistics& into);

// The gradients of scale and shift from parts [chunks, 2, columns] of their sums, then from dy that of x; dx may be dy.
void JoinGradients(GpuCall& call, const float* parts, int64_t chunks, const float* dy, const float* x, const float* mean, const float* inverse,
                   const float* scale, int64_t rows, int64_t columns, float* dx, float* dscale, float* dshift);

}  // namespace nextvlad::gpu
