"""Convolutions and pooling that every model goes through: XLA's own, but on a CPU formulated without its cliffs.

`convolution.py` has the public functions; `primitive.py` makes convolution three bilinear primitives, so that the
platform a program is lowered for picks the formulation and every differentiation stays within them; `plan.py` picks
it from the shapes; `formulas.py`, `bands.py`, `winograd.py` and `chunks.py` are the formulations; `pooling.py` is
on its own.

Whole layers in milliseconds, XLA's plain formulation -> here (jaxlib 0.10.2, AVX2, float32). Two cores otherwise
idle:

- Winograd F(2x2, 3x3), 64 channels on 16x16, batch 64: forward 16.2 -> 5.7, input gradient 17.7 -> 5.4 (PyTorch 6.4
  and 15.2). 128 channels on 8x8: 8.6 -> 6.0, 16.5 -> 7.3, weight gradient 14.2 -> 7.5 (PyTorch 7.1, 9.3, 9.0).
- One product per kernel position on small maps, 512 channels on 2x2: forward 801 -> 8, input gradient 791 -> 9
  (PyTorch 13 and 9). XLA swaps image and kernel there and leaves its fast path.
- Max-pool's gradient, 128 x 32 x 32 x 32, 2x2: 108 -> 5 (PyTorch 3.8); 3x3 of stride 2 on 64 x 32 x 32 x 64: 190 ->
  12 (PyTorch 21).

CPU time on one core of a busy machine:

- Depthwise 3x3, 96 channels on 48x48, batch 8: forward 87 -> 2.4, input gradient 105 -> 2.1, weight gradient 66 ->
  12 by taking the images one by one.
- Input gradient of strided layers through phases: 4x4, stride 2, 32 -> 64 channels on 16x16: 8.0 -> 5.7; 3 -> 32
  channels on 32x32: 17.3 (as a convolution of the spread gradient) -> 1.8.
- Weight gradient to few outputs with the roles of image and gradient exchanged, 5x5, 32 -> 3 channels: 125 -> 1.9.
- Bands for few inputs, 3 -> 8 channels on 32x32: forward 10.8 -> 3.5, weight gradient 7.0 (rows) -> 3.9.
- Cache-sized chunks for Winograd, 32 channels on 32x32, batch 64: forward 60 -> 16, weight gradient 86 -> 35 (XLA
  178).

Tried and left out: whole patches and one product (XLA's copy costs more than the product: forward 38 against
Winograd's 5.7); the 16 Winograd products as one batched product (24 against 5.7: XLA does not spread a batch over
cores); splitting a weight gradient's long sum into batches (no gain); space-to-depth for strided stems (75 against
22); XLA's convolution inside a loop over chunks (ten times slower than outside); pool by reshape and maximum (five
times slower, and ties share the gradient). XLA's CPU flags and calls to oneDNN are not used: the package stays pure
Python.
"""

from vision_jax.ops.convolution import conv_general_dilated as conv_general_dilated
from vision_jax.ops.convolution import conv_transpose as conv_transpose
from vision_jax.ops.pooling import avg_pool as avg_pool
from vision_jax.ops.pooling import max_pool as max_pool
