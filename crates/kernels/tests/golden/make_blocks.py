"""Blocks of random bytes in every format and the numbers they stand for, as the gguf package reads them.

    pip install gguf==0.17.1 numpy && python make_blocks.py

Writes blocks.bin: for each format in FORMATS, two blocks (in float formats 256 numbers) as they lie in a file, then
their values as little-endian f32. gguf is the reference reader of llama.cpp (MIT).
"""

import pathlib
import random
import struct

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize

# Format, bytes of a block, positions of its f16 scales.
FORMATS = [
    (T.F32, 4, None),
    (T.F16, 2, [0]),
    (T.BF16, 2, None),
    (T.Q4_0, 18, [0]),
    (T.Q4_1, 20, [0, 2]),
    (T.Q5_0, 22, [0]),
    (T.Q5_1, 24, [0, 2]),
    (T.Q8_0, 34, [0]),
    (T.Q2_K, 84, [80, 82]),
    (T.Q3_K, 110, [108]),
    (T.Q4_K, 144, [0, 2]),
    (T.Q5_K, 176, [0, 2]),
    (T.Q6_K, 210, [208]),
]

rng = random.Random(2026)
out = bytearray()
for kind, size, halves in FORMATS:
    blocks = bytearray()
    for _ in range(256 if size <= 4 else 2):
        if kind == T.F32:
            block = bytearray(struct.pack("<f", rng.uniform(-3, 3)))
        elif kind == T.BF16:
            block = bytearray(struct.pack("<f", rng.uniform(-3, 3))[2:])
        else:
            block = bytearray(rng.randbytes(size))
            for at in halves:
                block[at : at + 2] = struct.pack("<e", rng.uniform(-2, 2))
        blocks += block
    values = dequantize(np.frombuffer(bytes(blocks), dtype=np.uint8), kind) if kind not in (T.F32, T.F16) else (
        np.frombuffer(bytes(blocks), dtype=np.float32 if kind == T.F32 else np.float16)
    )
    out += blocks + values.astype("<f4").tobytes()
pathlib.Path(__file__).with_name("blocks.bin").write_bytes(out)
