"""Convolutions, pooling, sums and updates that every step goes through: XLA's own, but on a CPU without its cliffs.

`convolution.py` has the public functions; `primitive.py` makes convolution three bilinear primitives, so that the
platform a program is lowered for decides and every differentiation stays within them; `plan.py` decides from the
shapes. A program for one CPU device calls oneDNN (`onednn.py`, `onednn.cc`) for most convolutions. Where it is not to
be had, and in programs that XLA splits over several CPU devices, `formulas.py`, `bands.py`, `winograd.py` and
`chunks.py` reformulate them in XLA's own operations. `pooling.py` is on its own. `channels.py` and `updates.py` have
BatchNorm's sums and Adam's rule, calls of C++ that `native.py` compiles.

Layers in milliseconds, float32, jaxlib 0.10.2. Reformulated -> oneDNN (PyTorch 2.13, channels last), two cores with
AVX-512 (Zen 4):

- 3x3, 64 channels on 16x16, batch 64: forward 12.2 -> 5.0 (4.9), weight gradient 14.4 -> 5.2 (5.2).
- 3x3, 3 -> 8 channels on 32x32, batch 128: forward 0.9 -> 0.7 (0.7), weight gradient 3.0 -> 0.6 (0.6).
- 7x7, stride 2, 3 -> 64 channels on 64x64, batch 64: forward 12.9 -> 5.7 (5.9), weight gradient 52 -> 5.7 (5.8).
- Depthwise 3x3, 96 channels on 48x48, batch 32: forward 7.3 -> 1.8 (2.2), weight gradient 64 -> 4.0 (5.3).
- 512 channels on 2x2, batch 64, where oneDNN is not called: forward 4.6 against 8.1 (7.4).
- 9x9, 3 -> 64 channels on 128x128, batch 4, nor there: input gradient 17 against 46 (46).

DenseNet-161's step, 8 images of 64x64: Adam and the gradient's norm in one pass each take a third of its instructions
away (compiled in 33 to 47 s instead of 61). With BatchNorm's idle term gone, too, the time was 0.98 to 1.12 of
PyTorch's in four runs, and 1.10 before: a difference that a shared machine does not show.

XLA's plain formulation -> reformulated, two cores with AVX2 (Zen 3):

- Winograd F(2x2, 3x3), 64 channels on 16x16, batch 64: forward 16.2 -> 5.7, input gradient 17.7 -> 5.4.
- One product per kernel position, 512 channels on 2x2: forward 801 -> 8, input gradient 791 -> 9. XLA swaps image and
  kernel there and leaves its fast path.
- Max-pool's gradient, 128 x 32 x 32 x 32, 2x2: 108 -> 5 (PyTorch 3.8); 3x3 of stride 2 on 64 x 32 x 32 x 64: 190 ->
  12 (PyTorch 21).

Tried and left out: XLA's flags for oneDNN, YNNPACK and XNNPACK (nothing, or harm); whole patches and one product
(XLA's copy costs more than the product); the 16 Winograd products as one batched product (XLA does not spread a batch
over cores); splitting a weight gradient's long sum into batches; space-to-depth for strided stems; XLA's convolution
inside a loop over chunks (ten times slower than outside); pool by reshape and maximum (five times slower, and ties
share the gradient); oneDNN threads that spin while they wait (they take the cores from XLA's: 280 -> 460 for a step of
MobileNet-v2).

Not done: bfloat16 on a CPU (oneDNN is called in float32 only). PyTorch's autocast gains from it with AVX-512 BF16 (Zen
4; AMX was not to be had): SRCNN on 4x128x128 112 where ours, in XLA's own bfloat16, takes 305; the FID Inception 691
and 2,680; the DCGAN loses (331 and 145).
"""

from vision_jax.ops.channels import materialize as materialize
from vision_jax.ops.channels import moments as moments
from vision_jax.ops.channels import normalize as normalize
from vision_jax.ops.convolution import conv_general_dilated as conv_general_dilated
from vision_jax.ops.convolution import conv_transpose as conv_transpose
from vision_jax.ops.pooling import avg_pool as avg_pool
from vision_jax.ops.pooling import max_pool as max_pool
from vision_jax.ops.updates import adam as adam
from vision_jax.ops.updates import square_sum as square_sum
