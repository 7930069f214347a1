#!/usr/bin/env python3
"""Paired speed of Billion and llama.cpp: the same file, the same threads, in turn, on a quiet machine.

    benches/against_llama_cpp.py --billion target/release/billion --llama-bench PATH MODEL.gguf [MODEL.gguf ...]

For each file and thread count the two programs run alternately ROUNDS times; each round is one short run of either
(prefill of 512 tokens, decode of 64 from an empty cache). Printed: the median of each and the median, least and greatest
ratio of a round. Needs llama.cpp's llama-bench (its source ships in the llama-cpp-python package).
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--billion", required=True)
    parser.add_argument("--llama-bench", required=True)
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
            for index, what in enumerate([f"prefill {args.prompt}", f"decode {args.gen}"]):
                ours = [r[0][index] for r in rounds]
                theirs = [r[1][index] for r in rounds]
                ratios = [a / b for a, b in zip(ours, theirs)]
                print(f"| {Path(model).name} | {threads} | {what} | {statistics.median(ours):.1f} | {statistics.median(theirs):.1f} "
                      f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f}) |", flush=True)


if __name__ == "__main__":
    main()
