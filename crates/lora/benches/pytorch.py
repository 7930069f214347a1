"""Speed and memory of LoRA with PEFT and PyTorch on a processor, to set beside the example training_speed.

    python -m venv venv && venv/bin/pip install torch transformers peft
    venv/bin/python crates/lora/benches/pytorch.py smollm2|tinyllama [--dtype bfloat16] [--len 128] [--batch 4] [--steps 4]

Weights are random, shapes those of SmolLM2 135M and of TinyLlama 1.1B (as `random_model` writes it);
rank 8 on q_proj and v_proj, rows of random tokens, every token scored. Prints one line of JSON; the first step is not timed.
tokens_per_cpu_s counts the process's own work: with --threads 1 other programs on the machine hardly change it.
"""

import argparse
import json
import resource
import statistics
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SHAPES = {
    "smollm2": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                    num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True),
    "tinyllama": dict(hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
                      num_key_value_heads=4, vocab_size=32000, tie_word_embeddings=False),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--len", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    dtype = getattr(torch, args.dtype)
    torch.set_default_dtype(dtype)
    net = LlamaForCausalLM(LlamaConfig(**SHAPES[args.shape], max_position_embeddings=2048))
    torch.set_default_dtype(torch.float32)
    net = get_peft_model(net, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"]))
    net.train()
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=2e-4)
    speeds, own = [], []
    for _ in range(args.steps):
        ids = torch.randint(0, net.config.vocab_size, (args.batch, args.len))
        start, own_start = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        net(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        speeds.append(args.batch * args.len / (time.perf_counter() - start))
        own.append(args.batch * args.len / (time.process_time() - own_start))
    print(json.dumps({
        "tokens_per_s": round(statistics.median(speeds[1:]), 1),
        "tokens_per_cpu_s": round(statistics.median(own[1:]), 1),
        "peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "torch": torch.__version__,
    }))


main()
