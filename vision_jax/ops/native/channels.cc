// Sums over the rows of a [rows, channels] matrix of floats, and the identity, as XLA foreign functions; `channels.py`
// says what for.
//
// XLA's CPU compiler writes what it sums to memory first, and sums large arrays in several passes. Here a block of rows
// is summed in float, blocks in double, in an order that does not depend on the number of threads.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Floats = ffi::Buffer<ffi::F32>;
using Result = ffi::ResultBuffer<ffi::F32>;

namespace {

constexpr int64_t kBlock = 64;  // rows

// total[s][c] = sum over rows of term(row, c)[s]; `add(first row, last row, partial)` adds a block to S*channels floats.
template <int S, typename Add>
std::vector<double> Sum(int64_t rows, int64_t channels, Add add) {
  const int64_t width = S * channels;
  // As many parts as there may be threads, and few enough that adding them up costs nothing.
  const int64_t parts = std::min<int64_t>((rows + kBlock - 1) / kBlock, 64);
  const int64_t share = (rows + parts - 1) / parts;
  std::vector<double> totals(parts * width, 0.0);
#pragma omp parallel for schedule(static) if (rows * channels > 32768)
  for (int64_t part = 0; part < parts; ++part) {
    std::vector<float> partial(width);
    double* total = totals.data() + part * width;
    const int64_t end = std::min(rows, (part + 1) * share);
    for (int64_t row = part * share; row < end; row += kBlock) {
      std::fill(partial.begin(), partial.end(), 0.0f);
      add(row, std::min(row + kBlock, end), partial.data());
      for (int64_t i = 0; i < width; ++i) total[i] += partial[i];
    }
  }
  for (int64_t part = 1; part < parts; ++part)
    for (int64_t i = 0; i < width; ++i) totals[i] += totals[part * width + i];
  totals.resize(width);
  return totals;
}

int64_t Rows(const Floats& x, int64_t channels) { return channels ? x.element_count() / channels : 0; }

// mean and variance of each channel from the sums of x - shift and of its square.
ffi::Error Moments(Floats x, Floats shift, Result mean, Result variance) {
  const int64_t channels = shift.element_count(), rows = Rows(x, channels);
  const float *values = x.typed_data(), *offset = shift.typed_data();
  const auto sums = Sum<2>(rows, channels, [=](int64_t first, int64_t last, float* partial) {
    float *__restrict sum = partial, *__restrict square = partial + channels;
    for (int64_t row = first; row < last; ++row) {
      const float* line = values + row * channels;
      for (int64_t c = 0; c < channels; ++c) {
        const float d = line[c] - offset[c];
        sum[c] += d;
        square[c] += d * d;
      }
    }
  });
  for (int64_t c = 0; c < channels; ++c) {
    const double m = sums[c] / rows;
    mean->typed_data()[c] = static_cast<float>(offset[c] + m);
    variance->typed_data()[c] = static_cast<float>(std::max(sums[channels + c] / rows - m * m, 0.0));
  }
  return ffi::Error::Success();
}

// Sum over rows of (x - mean) * y.
ffi::Error CenteredDot(Floats x, Floats mean, Floats y, Result result) {
  const int64_t channels = mean.element_count(), rows = Rows(x, channels);
  const float *values = x.typed_data(), *offset = mean.typed_data(), *others = y.typed_data();
  const auto sums = Sum<1>(rows, channels, [=](int64_t first, int64_t last, float* __restrict partial) {
    for (int64_t row = first; row < last; ++row) {
      const float *line = values + row * channels, *other = others + row * channels;
      for (int64_t c = 0; c < channels; ++c) partial[c] += (line[c] - offset[c]) * other[c];
    }
  });
  std::copy(sums.begin(), sums.end(), result->typed_data());
  return ffi::Error::Success();
}

// Sum over rows of x.
ffi::Error ChannelSum(Floats x, Result result) {
  const int64_t channels = result->element_count(), rows = Rows(x, channels);
  const float* values = x.typed_data();
  const auto sums = Sum<1>(rows, channels, [=](int64_t first, int64_t last, float* __restrict partial) {
    for (int64_t row = first; row < last; ++row) {
      const float* line = values + row * channels;
      for (int64_t c = 0; c < channels; ++c) partial[c] += line[c];
    }
  });
  std::copy(sums.begin(), sums.end(), result->typed_data());
  return ffi::Error::Success();
}

// x, which lies where the result belongs.
ffi::Error Same(ffi::AnyBuffer, ffi::Result<ffi::AnyBuffer>) { return ffi::Error::Success(); }

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(VisionJaxMoments, Moments,
                              ffi::Ffi::Bind().Arg<Floats>().Arg<Floats>().Ret<Floats>().Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(VisionJaxCenteredDot, CenteredDot,
                              ffi::Ffi::Bind().Arg<Floats>().Arg<Floats>().Arg<Floats>().Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(VisionJaxChannelSum, ChannelSum, ffi::Ffi::Bind().Arg<Floats>().Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(VisionJaxSame, Same, ffi::Ffi::Bind().Arg<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>());
