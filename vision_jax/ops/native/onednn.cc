// A convolution and its two gradients by oneDNN, as one XLA foreign function.
//
// `onednn.py` finds libdnnl and registers `VisionJaxConvolution`. Of oneDNN's C interface
// (version 3, https://uxlfoundation.github.io/oneDNN) it declares what it calls, so that no headers need to be there.

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

extern "C" {
typedef struct dnnl_engine* dnnl_engine_t;
typedef struct dnnl_stream* dnnl_stream_t;
typedef struct dnnl_memory* dnnl_memory_t;
typedef struct dnnl_memory_desc* dnnl_memory_desc_t;
typedef const struct dnnl_memory_desc* const_dnnl_memory_desc_t;
typedef struct dnnl_primitive* dnnl_primitive_t;
typedef struct dnnl_primitive_desc* dnnl_primitive_desc_t;
typedef struct dnnl_primitive_attr* dnnl_primitive_attr_t;
typedef int64_t dnnl_dims_t[12];
typedef struct {
  int arg;
  dnnl_memory_t memory;
} dnnl_exec_arg_t;

int dnnl_engine_create(dnnl_engine_t*, int kind, size_t index);
int dnnl_stream_create(dnnl_stream_t*, dnnl_engine_t, unsigned flags);
int dnnl_memory_desc_create_with_strides(dnnl_memory_desc_t*, int ndims, const int64_t* dims, int type,
                                         const int64_t* strides);
int dnnl_memory_desc_create_with_tag(dnnl_memory_desc_t*, int ndims, const int64_t* dims, int type, int tag);
int dnnl_memory_desc_equal(const_dnnl_memory_desc_t, const_dnnl_memory_desc_t);
size_t dnnl_memory_desc_get_size(const_dnnl_memory_desc_t);
int dnnl_memory_desc_destroy(dnnl_memory_desc_t);
int dnnl_memory_create(dnnl_memory_t*, const_dnnl_memory_desc_t, dnnl_engine_t, void* data);
int dnnl_memory_destroy(dnnl_memory_t);
int dnnl_primitive_attr_create(dnnl_primitive_attr_t*);
int dnnl_primitive_attr_set_scratchpad_mode(dnnl_primitive_attr_t, int mode);
int dnnl_convolution_forward_primitive_desc_create(
    dnnl_primitive_desc_t*, dnnl_engine_t, int prop, int algorithm, const_dnnl_memory_desc_t src,
    const_dnnl_memory_desc_t weights, const_dnnl_memory_desc_t bias, const_dnnl_memory_desc_t dst,
    const int64_t* strides, const int64_t* dilates, const int64_t* before, const int64_t* after,
    dnnl_primitive_attr_t);
int dnnl_convolution_backward_data_primitive_desc_create(
    dnnl_primitive_desc_t*, dnnl_engine_t, int algorithm, const_dnnl_memory_desc_t diff_src,
    const_dnnl_memory_desc_t weights, const_dnnl_memory_desc_t diff_dst, const int64_t* strides,
    const int64_t* dilates, const int64_t* before, const int64_t* after, dnnl_primitive_desc_t forward,
    dnnl_primitive_attr_t);
int dnnl_convolution_backward_weights_primitive_desc_create(
    dnnl_primitive_desc_t*, dnnl_engine_t, int algorithm, const_dnnl_memory_desc_t src,
    const_dnnl_memory_desc_t diff_weights, const_dnnl_memory_desc_t diff_bias, const_dnnl_memory_desc_t diff_dst,
    const int64_t* strides, const int64_t* dilates, const int64_t* before, const int64_t* after,
    dnnl_primitive_desc_t forward, dnnl_primitive_attr_t);
int dnnl_reorder_primitive_desc_create(dnnl_primitive_desc_t*, const_dnnl_memory_desc_t, dnnl_engine_t,
                                       const_dnnl_memory_desc_t, dnnl_engine_t, dnnl_primitive_attr_t);
const_dnnl_memory_desc_t dnnl_primitive_desc_query_md(dnnl_primitive_desc_t, int what, int index);
int dnnl_primitive_create(dnnl_primitive_t*, dnnl_primitive_desc_t);
int dnnl_primitive_execute(dnnl_primitive_t, dnnl_stream_t, int count, const dnnl_exec_arg_t*);
}

namespace {

enum { kCpu = 1, kInOrder = 1, kBfloat16 = 2, kFloat = 3, kAnyTag = 1, kForwardTraining = 64, kDirect = 1, kUserScratchpad = 1 };
enum { kQueryExecArg = 255, kQueryScratchpad = 136 };
enum { kSrc = 1, kDst = 17, kWeights = 33, kScratchpad = 80, kDiffSrc = 129, kDiffDst = 145, kDiffWeights = 161 };
enum Kind { kForward, kInput, kWeight };

void Check(int status, const char* what) {
  if (status != 0) throw std::runtime_error(std::string(what) + ": oneDNN status " + std::to_string(status));
}

dnnl_engine_t Engine() {
  static dnnl_engine_t engine = [] {
    dnnl_engine_t made;
    Check(dnnl_engine_create(&made, kCpu, 0), "engine");
    return made;
  }();
  return engine;
}

dnnl_stream_t Stream() {
  thread_local dnnl_stream_t stream = [] {
    dnnl_stream_t made;
    Check(dnnl_stream_create(&made, Engine(), kInOrder), "stream");
    return made;
  }();
  return stream;
}

size_t Aligned(size_t size) { return (size + 63) / 64 * 64; }

// Memory for one call: the convolution's scratchpad and its re-ordered operands. Kept for later calls, of any thread.
class Scratch {
 public:
  explicit Scratch(size_t size) {
    if (size == 0) return;
    {
      std::lock_guard<std::mutex> lock(Mutex());
      const auto largest = std::max_element(Idle().begin(), Idle().end());
      if (largest != Idle().end()) {
        buffer_ = *largest;
        Idle().erase(largest);
      }
    }
    if (buffer_.first < size) {
      // Pages of its own: on the heap, what a buffer leaves when it grows would part the space of XLA's large ones.
      if (buffer_.second != nullptr) munmap(buffer_.second, buffer_.first);
      buffer_ = {};
      void* pages = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (pages == MAP_FAILED) throw std::bad_alloc();
      buffer_ = {size, pages};
    }
    next_ = static_cast<char*>(buffer_.second);
  }
  Scratch(const Scratch&) = delete;
  ~Scratch() {
    if (buffer_.second == nullptr) return;
    std::lock_guard<std::mutex> lock(Mutex());
    Idle().push_back(buffer_);
  }
  void* Take(size_t size) {
    void* taken = next_;
    next_ += Aligned(size);
    return taken;
  }

 private:
  using Buffer = std::pair<size_t, void*>;
  static std::mutex& Mutex() {
    static auto& mutex = *new std::mutex;
    return mutex;
  }
  static std::vector<Buffer>& Idle() {
    static auto& idle = *new std::vector<Buffer>;
    return idle;
  }
  Buffer buffer_ = {0, nullptr};
  char* next_ = nullptr;
};

struct Memory {
  dnnl_memory_t handle = nullptr;
  Memory(const_dnnl_memory_desc_t layout, void* data) {
    Check(dnnl_memory_create(&handle, layout, Engine(), data), "memory");
  }
  Memory(const Memory&) = delete;
  ~Memory() { dnnl_memory_destroy(handle); }
};

// One operand: as XLA lays it out, as the convolution wants it, and the way between the two where they differ.
struct Operand {
  int argument;
  dnnl_memory_desc_t given;
  const_dnnl_memory_desc_t wanted;
  dnnl_primitive_t reorder = nullptr;
};

struct Convolution {
  dnnl_primitive_t primitive;
  const_dnnl_memory_desc_t scratchpad;
  Operand operands[3];  // two inputs, then the result
};

dnnl_primitive_t Reorder(const_dnnl_memory_desc_t from, const_dnnl_memory_desc_t to) {
  dnnl_primitive_desc_t description;
  dnnl_primitive_t made;
  Check(dnnl_reorder_primitive_desc_create(&description, from, Engine(), to, Engine(), nullptr), "reorder");
  Check(dnnl_primitive_create(&made, description), "reorder");
  return made;
}

dnnl_memory_desc_t Images(int type, ffi::Span<const int64_t> d) {  // [N,H,W,C]
  const int64_t dims[] = {d[0], d[3], d[1], d[2]}, strides[] = {d[1] * d[2] * d[3], 1, d[2] * d[3], d[3]};
  dnnl_memory_desc_t made;
  Check(dnnl_memory_desc_create_with_strides(&made, 4, dims, type, strides), "images");
  return made;
}

std::pair<int, std::vector<int64_t>> KernelDims(ffi::Span<const int64_t> d, int64_t groups) {
  if (groups == 1) return {4, {d[3], d[2], d[0], d[1]}};
  return {5, {groups, d[3] / groups, d[2], d[0], d[1]}};
}

dnnl_memory_desc_t Kernel(int type, ffi::Span<const int64_t> d, int64_t groups) {  // [h,w,C/groups,O]
  auto [rank, dims] = KernelDims(d, groups);
  std::vector<int64_t> strides = {1, d[3], d[1] * d[2] * d[3], d[2] * d[3]};
  if (groups > 1) strides.insert(strides.begin(), d[3] / groups);
  dnnl_memory_desc_t made;
  Check(dnnl_memory_desc_create_with_strides(&made, rank, dims.data(), type, strides.data()), "kernel");
  return made;
}

dnnl_memory_desc_t AnyKernel(int type, ffi::Span<const int64_t> d, int64_t groups) {
  auto [rank, dims] = KernelDims(d, groups);
  dnnl_memory_desc_t made;
  Check(dnnl_memory_desc_create_with_tag(&made, rank, dims.data(), type, kAnyTag), "kernel");
  return made;
}

using Shape = ffi::Span<const int64_t>;

std::unique_ptr<Convolution> Build(Kind kind, int type, Shape x, Shape w, Shape y, Shape strides, Shape pads,
                                   Shape dilation, int64_t groups) {
  const int64_t before[] = {pads[0], pads[2]}, after[] = {pads[1], pads[3]};
  const int64_t dilates[] = {dilation[0] - 1, dilation[1] - 1};
  dnnl_memory_desc_t image = Images(type, x), result = Images(type, y);
  dnnl_memory_desc_t kernel = Kernel(type, w, groups), any = AnyKernel(type, w, groups);
  dnnl_primitive_attr_t attributes;
  Check(dnnl_primitive_attr_create(&attributes), "attributes");
  Check(dnnl_primitive_attr_set_scratchpad_mode(attributes, kUserScratchpad), "attributes");
  dnnl_primitive_desc_t forward, description;
  Check(dnnl_convolution_forward_primitive_desc_create(&forward, Engine(), kForwardTraining, kDirect, image, any,
                                                       nullptr, result, strides.begin(), dilates, before, after,
                                                       attributes),
        "forward convolution");
  auto made = std::make_unique<Convolution>();
  if (kind == kForward) {
    description = forward;
    made->operands[0] = {kSrc, image};
    made->operands[1] = {kWeights, kernel};
    made->operands[2] = {kDst, result};
  } else if (kind == kInput) {
    Check(dnnl_convolution_backward_data_primitive_desc_create(&description, Engine(), kDirect, image, any, result,
                                                               strides.begin(), dilates, before, after, forward,
                                                               attributes),
          "input gradient");
    made->operands[0] = {kDiffDst, result};
    made->operands[1] = {kWeights, kernel};
    made->operands[2] = {kDiffSrc, image};
  } else {
    Check(dnnl_convolution_backward_weights_primitive_desc_create(&description, Engine(), kDirect, image, any, nullptr,
                                                                  result, strides.begin(), dilates, before, after,
                                                                  forward, attributes),
          "weight gradient");
    made->operands[0] = {kSrc, image};
    made->operands[1] = {kDiffDst, result};
    made->operands[2] = {kDiffWeights, kernel};
  }
  Check(dnnl_primitive_create(&made->primitive, description), "primitive");
  made->scratchpad = dnnl_primitive_desc_query_md(description, kQueryScratchpad, 0);
  for (int i = 0; i < 3; ++i) {
    Operand& operand = made->operands[i];
    operand.wanted = dnnl_primitive_desc_query_md(description, kQueryExecArg, operand.argument);
    if (!dnnl_memory_desc_equal(operand.given, operand.wanted))
      operand.reorder = i < 2 ? Reorder(operand.given, operand.wanted) : Reorder(operand.wanted, operand.given);
  }
  return made;
}

void Execute(dnnl_primitive_t primitive, int count, const dnnl_exec_arg_t* arguments) {
  Check(dnnl_primitive_execute(primitive, Stream(), count, arguments), "execution");
}

void Run(const Convolution& convolution, void* const data[3]) {
  const size_t scratchpad_size = dnnl_memory_desc_get_size(convolution.scratchpad);
  size_t size = Aligned(scratchpad_size);
  for (const Operand& operand : convolution.operands)
    if (operand.reorder) size += Aligned(dnnl_memory_desc_get_size(operand.wanted));
  Scratch scratch(size);
  Memory scratchpad(convolution.scratchpad, scratch.Take(scratchpad_size));
  std::unique_ptr<Memory> memories[3];
  for (int i = 0; i < 3; ++i) {
    const Operand& operand = convolution.operands[i];
    void* used = operand.reorder ? scratch.Take(dnnl_memory_desc_get_size(operand.wanted)) : data[i];
    memories[i] = std::make_unique<Memory>(operand.wanted, used);
    if (operand.reorder && i < 2) {
      Memory given(operand.given, data[i]);
      const dnnl_exec_arg_t arguments[] = {{kSrc, given.handle}, {kDst, memories[i]->handle}};
      Execute(operand.reorder, 2, arguments);
    }
  }
  dnnl_exec_arg_t arguments[4] = {{kScratchpad, scratchpad.handle}};
  for (int i = 0; i < 3; ++i) arguments[i + 1] = {convolution.operands[i].argument, memories[i]->handle};
  Execute(convolution.primitive, 4, arguments);
  if (const Operand& operand = convolution.operands[2]; operand.reorder) {
    Memory given(operand.given, data[2]);
    const dnnl_exec_arg_t back[] = {{kSrc, memories[2]->handle}, {kDst, given.handle}};
    Execute(operand.reorder, 2, back);
  }
}

// All three buffers are float32, or all bfloat16.
ffi::Error Call(ffi::AnyBuffer a, ffi::AnyBuffer b, ffi::Result<ffi::AnyBuffer> c, int64_t kind,
                ffi::Span<const int64_t> strides, ffi::Span<const int64_t> pads, ffi::Span<const int64_t> dilation,
                int64_t groups) try {
  const ffi::DataType given = a.element_type();
  if (b.element_type() != given || c->element_type() != given || (given != ffi::F32 && given != ffi::BF16))
    return ffi::Error::InvalidArgument("a convolution of other types than float32 or bfloat16");
  const int type = given == ffi::F32 ? kFloat : kBfloat16;
  static std::mutex mutex;
  static auto& known = *new std::map<std::vector<int64_t>, std::unique_ptr<Convolution>>;
  const Shape sa = a.dimensions(), sb = b.dimensions(), sc = c->dimensions();
  const Shape x = kind == kInput ? sc : sa, w = kind == kWeight ? sc : sb;
  const Shape y = kind == kForward ? sc : kind == kInput ? sa : sb;
  std::vector<int64_t> key = {kind, type, groups};
  for (const Shape& part : {x, w, y, strides, pads, dilation}) key.insert(key.end(), part.begin(), part.end());
  const Convolution* convolution;
  {
    std::lock_guard<std::mutex> lock(mutex);
    auto& entry = known[key];
    if (entry == nullptr) entry = Build(static_cast<Kind>(kind), type, x, w, y, strides, pads, dilation, groups);
    convolution = entry.get();
  }
  void* const data[3] = {a.untyped_data(), b.untyped_data(), c->untyped_data()};
  Run(*convolution, data);
  return ffi::Error::Success();
} catch (const std::exception& error) {
  return ffi::Error::Internal(error.what());
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(VisionJaxConvolution, Call,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("kind")
                                  .Attr<ffi::Span<const int64_t>>("strides")
                                  .Attr<ffi::Span<const int64_t>>("pads")
                                  .Attr<ffi::Span<const int64_t>>("dilation")
                                  .Attr<int64_t>("groups"));
