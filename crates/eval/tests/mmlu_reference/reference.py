"""MMLU log-likelihoods by transformers on the starter model's dequantized weights in float32, to hold Billion's against.

    venv/bin/python reference.py run --data DIR [--shots 5] [--limit 5] --out FILE.jsonl
    venv/bin/python reference.py dequantize --out FOLDER
    venv/bin/python reference.py compare OURS.jsonl FILE.jsonl
    venv/bin/python reference.py golden --data DIR --zero-shot FILE.jsonl --five-shot FILE.jsonl

`run` makes one forward pass a question, without sharing anything, and prints its time; started again with the same FILE
it goes on where it was stopped. DIR is the official folder (test/
and dev/). `dequantize` writes the same weights as float32 safetensors. `compare` prints what issue and README promise, of
two files as `billion bench mmlu --samples` writes them. `golden` makes
golden.json, which tests/mmlu_reference.rs reads, of two runs (`--shots 0 --limit 1` and `--shots 5`).
Prompts are lm-evaluation-harness 0.4.13's `mmlu`. It needs torch, transformers, gguf, accelerate and the starter pack.
"""

import argparse
import csv
import hashlib
import json
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACK = HERE.parents[3] / "starter" / "pack"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
LETTERS = "ABCD"
# Subjects of golden.json with five examples, and its questions of each; all 57 are in it without examples.
GOLDEN_SUBJECTS = ["abstract_algebra", "astronomy", "business_ethics", "college_medicine", "formal_logic"]
GOLDEN_QUESTIONS = 4


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def body(row):
    choices = "".join(f"\n{letter}. {text}" for letter, text in zip(LETTERS, row[1:5]))
    return f"{row[0].strip()}{choices}\nAnswer:"


def prompt(subject, examples, row):
    head = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
    return head + "".join(f"{body(example)} {example[5]}\n\n" for example in examples) + body(row)


def subjects(data):
    return sorted(path.stem.removesuffix("_test") for path in (Path(data) / "test").glob("*_test.csv"))


class Model:
    def __init__(self, threads):
        import torch
        import transformers

        self.torch, self.version = torch, transformers.__version__
        torch.set_num_threads(threads)
        transformers.utils.logging.disable_progress_bar()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(PACK, gguf_file=FILE)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(PACK, gguf_file=FILE, dtype=torch.float32).eval()

    def log_likelihoods(self, text):
        """Of " A" to " D" after the text, each a single token, and the length of the text in tokens."""
        context = self.tokenizer(text)["input_ids"]
        with self.torch.no_grad():
            logits = self.model(self.torch.tensor([context]), logits_to_keep=1).logits[0, -1].double()
        logs = logits.log_softmax(-1)
        found = []
        for letter in LETTERS:
            whole = self.tokenizer(f"{text} {letter}")["input_ids"]
            assert whole[:-1] == context, "an answer is one token"
            found.append(logs[whole[-1]].item())
        return found, len(context)

    def sample(self, subject, index, examples, row):
        ll, tokens = self.log_likelihoods(prompt(subject, examples, row))
        pred = LETTERS[max(range(4), key=lambda i: ll[i])]
        return {"subject": subject, "index": index, "ll": ll, "pred": pred, "gold": row[5]}, tokens


def run(args):
    model = Model(args.threads)
    answered = read(args.out) if Path(args.out).exists() else {}
    tokens = questions = 0
    start = time.monotonic()
    with open(args.out, "a", encoding="utf-8") as out:
        for subject in subjects(args.data):
            examples = rows(Path(args.data) / "dev" / f"{subject}_dev.csv")[: args.shots] if args.shots else []
            for index, row in enumerate(rows(Path(args.data) / "test" / f"{subject}_test.csv")[: args.limit]):
                if (subject, index) in answered:
                    continue
                sample, length = model.sample(subject, index, examples, row)
                tokens += length
                questions += 1
                print(json.dumps(sample), file=out, flush=True)
    seconds = time.monotonic() - start
    print(json.dumps({"questions": questions, "prompt_tokens": tokens, "seconds": seconds,
                      "questions_per_s": questions / seconds, "transformers": model.version}))


def dequantize(args):
    from safetensors.torch import save_file

    model = Model(1)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    # transformers 5 calls what came from a GGUF file quantized, and will not save it itself.
    tensors = {name: tensor.contiguous() for name, tensor in model.model.state_dict().items()}
    if model.model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = model.model.config.to_dict()
    config.pop("quantization_config", None)
    (out / "config.json").write_text(json.dumps(config, indent=2, default=str) + "\n")
    model.tokenizer.save_pretrained(out)


def read(path):
    with open(path, encoding="utf-8") as file:
        samples = [json.loads(line) for line in file]
    return {(sample["subject"], sample["index"]): sample for sample in samples}


def compare(args):
    ours, theirs = read(args.ours), read(args.reference)
    assert ours.keys() == theirs.keys(), "the files hold other questions"
    differences, agree, clear = [], 0, []
    for key, reference in theirs.items():
        sample = ours[key]
        assert sample["gold"] == reference["gold"], key
        differences += [abs(a - b) for a, b in zip(sample["ll"], reference["ll"])]
        same = sample["pred"] == reference["pred"]
        agree += same
        first, second = sorted(reference["ll"], reverse=True)[:2]
        if not same and first - second > 0.15:
            clear.append((key, first - second))
    print(json.dumps({
        "questions": len(theirs), "mean_difference": sum(differences) / len(differences), "most": max(differences),
        "agreement": agree / len(theirs), "disagreements_at_a_clear_margin": clear,
        "correct": [sum(s["pred"] == s["gold"] for s in side.values()) for side in (ours, theirs)],
    }))


def golden(args):
    import transformers

    zero_shot, five_shot = read(args.zero_shot), read(args.five_shot)
    record = {
        "made_by": f"transformers {transformers.__version__}, float32",
        "model_sha256": hashlib.sha256((PACK / FILE).read_bytes()).hexdigest(),
        "zero_shot": list(zero_shot.values()),
        "dev": {subject: rows(Path(args.data) / "dev" / f"{subject}_dev.csv")[:5] for subject in GOLDEN_SUBJECTS},
        "five_shot": [five_shot[subject, index] for subject in GOLDEN_SUBJECTS for index in range(GOLDEN_QUESTIONS)],
    }
    text = json.dumps(record, ensure_ascii=False)
    (HERE / "golden.json").write_text(text.replace('{"subject"', '\n{"subject"').replace(']], "', ']],\n"') + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, work in [("run", run), ("dequantize", dequantize), ("compare", compare), ("golden", golden)]:
        command = commands.add_parser(name)
        command.set_defaults(work=work)
        if name in ("run", "golden"):
            command.add_argument("--data", required=True)
        if name == "run":
            command.add_argument("--threads", type=int, default=2)
            command.add_argument("--shots", type=int, default=5)
            command.add_argument("--limit", type=int, default=5)
        if name == "golden":
            command.add_argument("--zero-shot", required=True)
            command.add_argument("--five-shot", required=True)
        if name in ("run", "dequantize"):
            command.add_argument("--out", required=True)
        if name == "compare":
            command.add_argument("ours")
            command.add_argument("reference")
    args = parser.parse_args()
    args.work(args)


if __name__ == "__main__":
    main()
