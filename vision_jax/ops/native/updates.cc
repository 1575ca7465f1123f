// Adam's rule for one parameter, and a sum of squares, as XLA foreign functions; `updates.py` says what for.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Floats = ffi::Buffer<ffi::F32>;
using Result = ffi::ResultBuffer<ffi::F32>;

namespace {

constexpr int64_t kSerial = 32768;  // elements that one thread is as fast with
constexpr int64_t kBlock = 4096;    // elements summed in float
constexpr int64_t kLanes = 32;

// The moments lie where their new values belong.
ffi::Error Adam(Floats gradient, Floats mean, Floats square, Floats corrections, Result update, Result new_mean,
                Result new_square, double b1, double b2, double eps) {
  const int64_t size = gradient.element_count();
  const float* g = gradient.typed_data();
  const float *m = mean.typed_data(), *v = square.typed_data();
  float *u = update->typed_data(), *new_m = new_mean->typed_data(), *new_v = new_square->typed_data();
  const float keep_m = b1, keep_v = b2, add_m = 1.0 - b1, add_v = 1.0 - b2, floor = eps;
  const float scale_m = 1.0f / corrections.typed_data()[0], scale_v = 1.0f / corrections.typed_data()[1];
#pragma omp parallel for simd schedule(static) if (parallel : size > kSerial)
  for (int64_t i = 0; i < size; ++i) {
    const float next_m = keep_m * m[i] + add_m * g[i];
    const float next_v = keep_v * v[i] + add_v * g[i] * g[i];
    new_m[i] = next_m;
    new_v[i] = next_v;
    u[i] = scale_m * next_m / (std::sqrt(scale_v * next_v) + floor);
  }
  return ffi::Error::Success();
}

// Blocks are summed in float, one sum per lane, and added up in double, in an order that no number of threads changes.
ffi::Error SquareSum(Floats values, Result result) {
  const int64_t size = values.element_count(), blocks = (size + kBlock - 1) / kBlock;
  const float* x = values.typed_data();
  std::vector<double> sums(blocks);
#pragma omp parallel for schedule(static) if (size > kSerial)
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t end = std::min(size, (block + 1) * kBlock);
    float lanes[kLanes] = {};
    int64_t i = block * kBlock;
    for (; i + kLanes <= end; i += kLanes)
      for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane] * x[i + lane];
    for (; i < end; ++i) lanes[0] += x[i] * x[i];
    for (const float lane : lanes) sums[block] += lane;
  }
  double sum = 0.0;
  for (const double block : sums) sum += block;
  result->typed_data()[0] = static_cast<float>(sum);
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(VisionJaxAdam, Adam,
                              ffi::Ffi::Bind()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Ret<Floats>()
                                  .Ret<Floats>()
                                  .Ret<Floats>()
                                  .Attr<double>("b1")
                                  .Attr<double>("b2")
                                  .Attr<double>("eps"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(VisionJaxSquareSum, SquareSum, ffi::Ffi::Bind().Arg<Floats>().Ret<Floats>());
