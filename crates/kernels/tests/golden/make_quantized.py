"""Rows of numbers and the blocks that llama.cpp's quantizers make of them (no importance matrix).

    GGML_BASE=.../libggml-base.so STARTER=.../SmolLM2-135M-Instruct.Q4_1.gguf python make_quantized.py

GGML_BASE is ggml's own library (llama.cpp of November 2026); needs numpy and gguf (both are oracles only). Writes
quantized.bin: the number of rows and their length as little-endian u32, the rows as f32, then the bytes of all rows in
each format of FORMATS. The last rows are real weights.
"""

import ctypes
import os
import pathlib

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

COLS = 512
# ggml_type numbers: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K.
FORMATS = [(2, 18, 32), (3, 20, 32), (6, 22, 32), (7, 24, 32), (8, 34, 32), (12, 144, 256), (13, 176, 256), (14, 210, 256)]

rng = np.random.default_rng(2026)
rows = [rng.normal(0, 0.02, COLS) for _ in range(4)]
rows += [rng.standard_t(3, COLS) * 0.02, rng.standard_t(2, COLS), rng.laplace(0, 0.05, COLS)]
rows += [rng.uniform(-1, 1, COLS), rng.uniform(0.1, 1, COLS), rng.uniform(-1, -0.1, COLS)]
outliers = rng.normal(0, 0.01, COLS)
outliers[::97] *= 60
rows += [outliers, rng.normal(0, 1e-5, COLS), np.zeros(COLS), np.full(COLS, 0.25), np.full(COLS, -0.25)]
steps = rng.integers(-8, 8, COLS) / 16  # Ties of rounding.
rows += [steps, np.where(np.arange(COLS) < 256, 0.0, rng.normal(0, 1, COLS))]
reader = GGUFReader(os.environ["STARTER"])
for tensor in reader.tensors:
    if tensor.name in ("blk.3.ffn_down.weight", "blk.20.ffn_down.weight", "blk.29.ffn_down.weight"):
        values = dequantize(tensor.data, tensor.tensor_type)
        # Their own grid of Q4_1 would be found again: noise of a tenth of a step hides it.
        values = values[7, :COLS]
        rows.append(values + rng.normal(0, 0.1 * values.std() / 4, COLS))
rows = np.ascontiguousarray(np.stack(rows), dtype=np.float32)

ggml = ctypes.CDLL(os.environ["GGML_BASE"])
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
ggml.ggml_quantize_chunk.argtypes = [
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
]
out = bytearray(np.array(rows.shape, dtype="<u4").tobytes() + rows.tobytes())
for kind, size, elems in FORMATS:
    block = ctypes.create_string_buffer(len(rows) * COLS // elems * size)
    made = ggml.ggml_quantize_chunk(kind, rows.ctypes.data, block, 0, len(rows), COLS, None)
    assert made == len(block), (kind, made, len(block))
    out += block.raw
pathlib.Path(__file__).with_name("quantized.bin").write_bytes(out)
print(rows.shape, len(out))
