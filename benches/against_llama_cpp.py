#!/usr/bin/env python3
"""Paired speed of Billion and llama.cpp: the same file, the same threads, in turn, on a quiet machine.

    benches/against_llama_cpp.py --billion target/release/billion --llama-bench PATH MODEL.gguf [MODEL.gguf ...]

For each file and thread count the two programs run alternately ROUNDS times; each round is one short run of either:
prefill of 512 tokens and decode of 64 from an empty cache. Printed: the median of each and the median, least and greatest
ratio of a round; which of the two goes first changes from round to round. More is compared when asked for:

    --llama-batched-bench PATH   8 sequences that decode together
    --depth 3500                 decode with that many tokens in the cache
    --neighbour                  prefill and decode while another process keeps a core busy, and what either program loses by it
    --roofline PATH              what a plain read of memory reaches, measured after each round's decoding, beside the bytes of the
                                 file that decoding passes in a second (the example `roofline` of billion-kernels; a decoder
                                 does not read all of its embedding, so this is a little more than it reads)
    --memory                     Billion's time to load and what it then holds, beside the file's size

llama-bench and llama-batched-bench are llama.cpp's own; its source ships in the llama-cpp-python package.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
from contextlib import contextmanager
from pathlib import Path


def answer(command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()


def billion(args, model, threads, **more):
    """{"prefill": tokens/s, "decode": tokens/s} of one run of Billion."""
    options = {"prompt": args.prompt, "gen": args.gen, "repeat": args.repeat, "threads": threads, **more}
    command = [args.billion, "bench", "speed", "--model", model, "--json"]
    report = json.loads(answer(command + [word for name, value in options.items() for word in (f"--{name}", str(value))]))
    return {"prefill": report["prefill_tokens_per_s"]["median"], "decode": report["decode_tokens_per_s"]["median"]}


def llama_cpp(args, model, threads, depth=0):
    """As `billion`, of one run of llama-bench."""
    prompt = 0 if depth else args.prompt
    command = [args.llama_bench, "-m", model, "-p", str(prompt), "-n", str(args.gen), "-d", str(depth), "-t", str(threads),
               "-r", str(args.repeat), "-o", "json"]
    rows = json.loads(answer(command))
    return {"decode" if row["n_gen"] else "prefill": statistics.median(row["samples_ts"]) for row in rows}


def llama_cpp_batch(args, model, threads):
    """Tokens/s of all sequences: the median of as many runs of llama-batched-bench, which repeats nothing itself."""
    command = [args.llama_batched_bench, "-m", model, "-npp", "1", "-ntg", str(args.gen), "-npl", str(args.batch), "-t", str(threads),
               "-c", "2048", "--output-format", "jsonl"]
    runs = [json.loads(line)["speed_tg"] for _ in range(args.repeat)
            for line in answer(command).splitlines() if line.startswith("{")]
    return statistics.median(runs)


def spin():
    while True:
        pass


@contextmanager
def neighbour():
    """Another process that keeps one core busy."""
    process = multiprocessing.Process(target=spin, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def both(order, ours, theirs):
    """What the two measure, ours first; which of them runs first is `order`'s."""
    if order % 2:
        second = theirs()
        return ours(), second
    return ours(), theirs()


def paired(args, model, threads):
    """{what: [(ours, theirs), ...]}, a pair a round."""
    pairs = {}

    def add(what, ours, theirs):
        pairs.setdefault(what, []).append((ours, theirs))

    for order in range(args.rounds):
        alone = both(order, lambda: billion(args, model, threads), lambda: llama_cpp(args, model, threads))
        for part, tokens in (("prefill", args.prompt), ("decode", args.gen)):
            add(f"{part} {tokens}", *(run[part] for run in alone))
        if args.roofline:
            read = float(answer([args.roofline, "read", str(threads)]))
            add(f"decode {args.gen}, GB/s of the file | plain read, GB/s", alone[0]["decode"] * os.path.getsize(model) / 1e9, read)
        if args.llama_batched_bench:
            add(f"decode {args.gen}, {args.batch} together",
                *both(order, lambda: billion(args, model, threads, prompt=16, batch=args.batch)["decode"],
                      lambda: llama_cpp_batch(args, model, threads)))
        if args.depth:
            deep = both(order, lambda: billion(args, model, threads, prompt=1, depth=args.depth),
                        lambda: llama_cpp(args, model, threads, args.depth))
            add(f"decode {args.gen} after {args.depth}", *(run["decode"] for run in deep))
        if args.neighbour:
            with neighbour():
                beside = both(order, lambda: billion(args, model, threads), lambda: llama_cpp(args, model, threads))
            for part in ("prefill", "decode"):
                add(f"{part}, a busy neighbour", *(run[part] for run in beside))
                add(f"{part}, part kept beside it", *(b[part] / a[part] for a, b in zip(alone, beside)))
    return pairs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--billion", required=True)
    parser.add_argument("--llama-bench", required=True)
    parser.add_argument("--llama-batched-bench", help="compares decoding of several sequences together too")
    parser.add_argument("--batch", type=int, default=8, help="sequences of that comparison")
    parser.add_argument("--depth", type=int, default=0, help="compares decoding with so many tokens in the cache too")
    parser.add_argument("--neighbour", action="store_true", help="compares beside another busy process too")
    parser.add_argument("--roofline", help="measures what a plain read of memory reaches")
    parser.add_argument("--memory", action="store_true", help="measures loading")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3, help="repeats inside a run")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=64)
    args = parser.parse_args()
    print(f"| file | threads | | Billion | llama.cpp | ratio (median of {args.rounds} rounds, min - max) |")
    print("|---|---|---|---|---|---|")
    for model in args.models:
        name = Path(model).name
        for threads in args.threads:
            for what, pairs in paired(args, model, threads).items():
                ours, theirs = (statistics.median(side) for side in zip(*pairs))
                ratios = [a / b for a, b in pairs]
                digits = 2 if "kept" in what else 1
                what = what.replace(" | ", " beside a ")
                print(f"| {name} | {threads} | {what} | {ours:.{digits}f} | {theirs:.{digits}f} "
                      f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f}) |", flush=True)
        if args.memory:
            size = os.path.getsize(model)
            loads = [json.loads(answer([args.billion, "bench", "speed", "--model", model, "--prompt", "1", "--gen", "1", "--repeat", "1",
                                        "--json"]))["load_s"] for _ in range(args.rounds)]
            held = json.loads(answer([args.billion, "bench", "memory", "--model", model, "--ctx", "512", "--json"]))
            ratio = (held["idle_rss_bytes"] - held["kv_bytes"]) / size
            print(f"| {name} | all | loading, warm: s | {statistics.median(loads):.2f} | | |")
            print(f"| {name} | all | resident less keys and values, of {size / 1e6:.0f} MB: MB | "
                  f"{(held['idle_rss_bytes'] - held['kv_bytes']) / 1e6:.0f} | | {ratio:.2f} of the file |", flush=True)


if __name__ == "__main__":
    main()
