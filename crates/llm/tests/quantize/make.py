"""Which type llama-quantize gives each tensor, for models of several depths and widths.

    LLAMA_QUANTIZE=.../llama-quantize python make.py

Needs numpy and gguf 0.19; llama.cpp of November 2026. Writes recipes.json beside itself: for each model its tensors with
their shapes (outermost first), blocks, heads, and for each file type the types of the tensors in their order.
"""

import json
import os
import pathlib
import subprocess
import tempfile

import gguf
import numpy as np

QUANTS = ["q4_0", "q4_k_m", "q5_k_m", "q6_k", "q8_0", "f16"]
# Architecture, blocks, hidden, heads, key heads, ffn, tied head.
MODELS = {
    "TinyLlama 1.1B": ("llama", 22, 256, 4, 1, 512, False),
    "Llama 2 7B": ("llama", 32, 256, 4, 4, 512, False),
    "Llama 3.2 1B": ("llama", 16, 256, 4, 1, 512, True),
    "SmolLM2 135M": ("llama", 30, 96, 3, 1, 256, True),
    "Llama 2 70B": ("llama", 80, 256, 4, 1, 512, False),
    "Odd widths": ("llama", 9, 40, 4, 4, 96, False),
    "StableLM 2 1.6B": ("stablelm", 24, 256, 4, 4, 768, False),
    "Pythia 1B": ("gptneox", 16, 256, 4, 4, 1024, False),
}
VOCAB = 64


def tensors(arch, layers, hidden, heads, kv_heads, ffn, tied):
    kv = hidden // heads * kv_heads
    yield "token_embd.weight", (VOCAB, hidden)
    for i in range(layers):
        b = f"blk.{i}."
        yield b + "attn_norm.weight", (hidden,)
        if arch == "gptneox":
            yield b + "attn_qkv.weight", (hidden + 2 * kv, hidden)
            yield b + "attn_qkv.bias", (hidden + 2 * kv,)
        else:
            yield b + "attn_q.weight", (hidden, hidden)
            yield b + "attn_k.weight", (kv, hidden)
            yield b + "attn_v.weight", (kv, hidden)
        yield b + "attn_output.weight", (hidden, hidden)
        yield b + "ffn_norm.weight", (hidden,)
        if arch != "gptneox":
            yield b + "ffn_gate.weight", (ffn, hidden)
        yield b + "ffn_up.weight", (ffn, hidden)
        yield b + "ffn_down.weight", (hidden, ffn)
    yield "output_norm.weight", (hidden,)
    if not tied:
        yield "output.weight", (VOCAB, hidden)


def write(path, arch, layers, hidden, heads, kv_heads, ffn, tied):
    writer = gguf.GGUFWriter(path, arch)
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_layer_norm_eps(1e-5)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_parallel_residual(True)
    writer.add_vocab_size(VOCAB)
    rng = np.random.default_rng(1)
    for name, shape in tensors(arch, layers, hidden, heads, kv_heads, ffn, tied):
        kind = np.float32 if len(shape) == 1 else np.float16
        writer.add_tensor(name, rng.normal(0, 0.02, shape).astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


record = {}
for title, model in MODELS.items():
    with tempfile.TemporaryDirectory() as folder:
        source = f"{folder}/in.gguf"
        write(source, *model)
        types = {}
        for quant in QUANTS:
            made = f"{folder}/{quant}.gguf"
            command = [os.environ["LLAMA_QUANTIZE"], source, made, quant, "2"]
            subprocess.run(command, check=True, capture_output=True)
            found = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(made).tensors}
            types[quant] = " ".join(found[name] for name, _ in tensors(*model))
    record[title] = {
        "layers": model[1], "heads": model[3], "kv_heads": model[4],
        "tensors": [[name, *shape] for name, shape in tensors(*model)], "types": types,
    }
path = pathlib.Path(__file__).with_name("recipes.json")
path.write_text(json.dumps(record, separators=(",", ":")).replace('"types"', '\n"types"') + "\n")
print(path.stat().st_size)
