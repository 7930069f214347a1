"""Makes expected.json: what transformers says of the starter model, its weights dequantized to float32.

Run in the root of the checkout, with torch, transformers and gguf installed:
    python crates/cli/tests/starter/make.py
"""

import json
import math
import pathlib

import torch
import transformers

HERE = pathlib.Path(__file__).parent
PACK = pathlib.Path("starter/pack")
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
WINDOW = 64
SUBJECTS = ["abstract_algebra", "anatomy"]
LIMIT = 2

tokenizer = transformers.AutoTokenizer.from_pretrained(PACK, gguf_file=FILE)
model = transformers.AutoModelForCausalLM.from_pretrained(PACK, gguf_file=FILE, dtype=torch.float32).eval()


def log_probs(ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].double().log_softmax(-1)


text = (HERE / "text.txt").read_text()
ids = tokenizer(text, add_special_tokens=False)["input_ids"]
nll, tokens = 0.0, 0
for start in range(0, len(ids), WINDOW):
    window = ids[start : start + WINDOW]
    rows = log_probs(window)
    for i in range(1, len(window)):
        nll -= rows[i - 1, window[i]].item()
        tokens += 1

samples = []
rows = [json.loads(line) for line in (PACK / "mmlu/mmlu.jsonl").read_text().splitlines()]
for subject in SUBJECTS:
    of_subject = [r for r in rows if r["topic"].replace(" ", "_") == subject and r["correct_answer"] != "answer"]
    for index, row in enumerate(of_subject[:LIMIT]):
        context = (
            f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
            + row["question"].strip()
            + "".join(f"\n{letter}. {row['answer_' + letter.lower()]}" for letter in "ABCD")
            + "\nAnswer:"
        )
        ids = tokenizer(context)["input_ids"]
        last = log_probs(ids)[-1]
        ll = []
        for letter in "ABCD":
            whole = tokenizer(f"{context} {letter}")["input_ids"]
            assert whole[:-1] == ids
            ll.append(last[whole[-1]].item())
        samples.append({"subject": subject, "index": index, "ll": ll, "gold": row["correct_answer"]})

expected = {
    "transformers": transformers.__version__,
    "torch": torch.__version__,
    "perplexity": {"window": WINDOW, "tokens": tokens, "perplexity": math.exp(nll / tokens)},
    "mmlu": samples,
}
(HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
