#!/usr/bin/env python3
"""Perplexity by Billion and by llama.cpp: the same file, the same text, the same tokens scored.

    benches/perplexity_against_llama_cpp.py --billion target/release/examples/perplexity_windows --llama-perplexity PATH \\
        --text TEXT [--text TEXT ...] [--chunks N] [--reference] MODEL.gguf [MODEL.gguf ...]

Billion's side is `cargo build --release -p billion-llm --example perplexity_windows`, which cuts and scores a text as
llama.cpp's llama-perplexity does: windows of 512 tokens, each scored in its second half. Nothing is random, so one run says
it all, other load on the machine changes nothing, and a difference is one of arithmetic alone. With --reference the same
file is also computed in F32 by the candle executor (slow; 4 bytes a weight), which tells who is nearer to exact arithmetic
where the two differ. Less perplexity than the reference is as much an error as more. Exits with 1 if Billion's perplexity
exceeds llama.cpp's by more than --tolerance.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path


def billion(args, model, text, executor):
    """(totals, perplexity after each window) of Billion."""
    command = [args.billion, model, text, f"window={args.window}", f"threads={args.threads}", f"executor={executor}"]
    command += [f"chunks={args.chunks}"] if args.chunks else []
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    *windows, totals = [json.loads(line) for line in said.splitlines()]
    return totals, [window["perplexity"] for window in windows]


def llama_cpp(args, model, text):
    """(perplexity, perplexity after each window) of llama.cpp, to the four decimals that it prints."""
    command = [args.llama_perplexity, "-m", model, "-f", text, "-c", str(args.window), "-t", str(args.threads)]
    command += ["--chunks", str(args.chunks)] if args.chunks else []
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    final = re.search(r"Final estimate: PPL = ([0-9.]+)", done.stdout)
    if not final:
        sys.exit(f"{args.llama_perplexity} gave no perplexity for {model}:\n{done.stdout[-2000:]}")
    windows = [float(value) for value in re.findall(r"\[\d+\]([0-9.]+),", done.stdout)]
    return float(final[1]), windows


def off(value, reference):
    """Difference in percent, as a cell of the table."""
    return f"{100 * (value / reference - 1):+.3f} %"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--billion", required=True, help="the example perplexity_windows")
    parser.add_argument("--llama-perplexity", required=True)
    parser.add_argument("--text", required=True, action="append", help="at least two windows long")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--chunks", type=int, help="windows of each text; all if not said")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--reference", action="store_true", help="compute in F32 too")
    parser.add_argument("--tolerance", type=float, default=0.2, help="percent")
    args = parser.parse_args()
    head = ["file", "text", "tokens scored", "Billion", "llama.cpp", "Billion to llama.cpp"]
    head += ["F32", "Billion to F32", "llama.cpp to F32"] if args.reference else []
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    worse = []
    for model in args.models:
        for text in args.text:
            totals, ours = billion(args, model, text, "cpu")
            theirs, windows = llama_cpp(args, model, text)
            if len(ours) != len(windows):
                sys.exit(f"{text} has {len(ours)} windows for Billion and {len(windows)} for llama.cpp: they do not score the same tokens of {model}")
            perplexity = totals["perplexity"]
            cells = [Path(model).name, Path(text).name, f"{totals['scored']:,}", f"{perplexity:.4f}", f"{theirs:.4f}",
                     off(perplexity, theirs)]
            if args.reference:
                exact = billion(args, model, text, "reference")[0]["perplexity"]
                cells += [f"{exact:.4f}", off(perplexity, exact), off(theirs, exact)]
            print(f"| {' | '.join(cells)} |", flush=True)
            if perplexity > theirs * (1 + args.tolerance / 100):
                worse.append(f"{Path(model).name} on {Path(text).name}")
    if worse:
        sys.exit(f"more than {args.tolerance} % above llama.cpp: {', '.join(worse)}")


if __name__ == "__main__":
    main()
