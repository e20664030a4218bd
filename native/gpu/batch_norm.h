// The parts of a batch norm over rows, which soft assignment uses too.
#pragma once

#include "gpu_call.h"

namespace nextvlad::gpu {

// A batch's statistics, `columns` values each.
struct Statistics {
  float *mean, *variance, *inverse;
  float* factor;  // scale inverse
};

// Computes mean, biased variance, inverse = 1 / sqrt(variance + epsilon) and factor of each column of x [rows, columns].
void ComputeStatistics(GpuCall& call, const float* x, int64_t rows, int64_t columns, const float* scale, const float* epsilon, const Statistics& statistics);

// Computes the gradients of scale and shift from parts [chunks, 2, columns] of their sums, then that of x from dy; dx may be dy.
void ComputeGradients(GpuCall& call, const float* parts, int64_t chunks, const float* dy, const float* x, const float* mean, const float* inverse,
                      const float* scale, int64_t rows, int64_t columns, float* dx, float* dscale, float* dshift);

}  // namespace nextvlad::gpu
