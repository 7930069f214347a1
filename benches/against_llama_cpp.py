#!/usr/bin/env python3
"""Paired speed of Billion and llama.cpp: the same file, the same threads, in turn, on a quiet machine.

    benches/against_llama_cpp.py --billion target/release/billion --llama-bench PATH MODEL.gguf [MODEL.gguf ...]

For each file and thread count the two programs run alternately ROUNDS times; each round is one short run of either
(prefill of 512 tokens, decode of 64 from an empty cache). Printed: the median of each and the median, least and greatest
ratio of a round. Needs llama.cpp's llama-bench (its source ships in the llama-cpp-python package). With its
llama-batched-bench (--llama-batched-bench PATH) 8 sequences that decode together are compared as well.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path


def billion(args, model, threads):
    """(prefill, decode) in tokens/s of one run of Billion."""
    command = [args.billion, "bench", "speed", "--model", model, "--prompt", str(args.prompt), "--gen", str(args.gen),
               "--repeat", str(args.repeat), "--threads", str(threads), "--json"]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
    return report["prefill_tokens_per_s"]["median"], report["decode_tokens_per_s"]["median"]


def llama_cpp(args, model, threads):
    """(prefill, decode) in tokens/s of one run of llama-bench."""
    command = [args.llama_bench, "-m", model, "-p", str(args.prompt), "-n", str(args.gen), "-t", str(threads),
               "-r", str(args.repeat), "-o", "json"]
    rows = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
    medians = {bool(row["n_gen"]): statistics.median(row["samples_ts"]) for row in rows}
    return medians[False], medians[True]


def billion_batch(args, model, threads):
    """Tokens/s of all sequences of one run of Billion."""
    command = [args.billion, "bench", "speed", "--model", model, "--prompt", "16", "--gen", str(args.gen), "--batch", str(args.batch),
               "--repeat", str(args.repeat), "--threads", str(threads), "--json"]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
    return report["decode_tokens_per_s"]["median"]


def llama_cpp_batch(args, model, threads):
    """Tokens/s of all sequences: the median of as many runs of llama-batched-bench, which repeats nothing itself."""
    command = [args.llama_batched_bench, "-m", model, "-npp", "1", "-ntg", str(args.gen), "-npl", str(args.batch), "-t", str(threads),
               "-c", "2048", "--output-format", "jsonl"]
    runs = []
    for _ in range(args.repeat):
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
        runs += [json.loads(line)["speed_tg"] for line in said.splitlines() if line.startswith("{")]
    return statistics.median(runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--billion", required=True)
    parser.add_argument("--llama-bench", required=True)
    parser.add_argument("--llama-batched-bench", help="compares decoding of several sequences together too")
    parser.add_argument("--batch", type=int, default=8, help="sequences of that comparison")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3, help="repeats inside a run")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=64)
    args = parser.parse_args()
    print(f"| file | threads | | Billion | llama.cpp | ratio (median of {args.rounds} rounds, min - max) |")
    print("|---|---|---|---|---|---|")
    for model in args.models:
        for threads in args.threads:
            rounds = [(billion(args, model, threads), llama_cpp(args, model, threads)) for _ in range(args.rounds)]
            compared = [(f"prefill {args.prompt}", [(a[0], b[0]) for a, b in rounds]),
                        (f"decode {args.gen}", [(a[1], b[1]) for a, b in rounds])]
            if args.llama_batched_bench:
                together = [(billion_batch(args, model, threads), llama_cpp_batch(args, model, threads)) for _ in range(args.rounds)]
                compared.append((f"decode {args.gen}, {args.batch} together", together))
            for what, pairs in compared:
                ours, theirs = zip(*pairs)
                ratios = [a / b for a, b in zip(ours, theirs)]
                print(f"| {Path(model).name} | {threads} | {what} | {statistics.median(ours):.1f} | {statistics.median(theirs):.1f} "
                      f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f}) |", flush=True)


if __name__ == "__main__":
    main()
