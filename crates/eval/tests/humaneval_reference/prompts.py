"""Makes prompts.json: HumanEval prompts as lm-evaluation-harness 0.4.13 and transformers put them to the starter model.

    venv/bin/python prompts.py PATH_OF_lm_eval

The templates are read from the harness's own task files (`lm_eval/tasks/humaneval`), rendered as its `apply_template` does
(jinja, trailing line feeds kept, undefined names refused), and put into the chat template as its `apply_chat_template` does.
It needs jinja2, pyyaml, torch, transformers, gguf and the starter pack.
"""

import gzip
import json
import sys
from pathlib import Path

import jinja2
import transformers
import yaml

HERE = Path(__file__).resolve().parent
PACK = HERE.parents[3] / "starter" / "pack"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# One docstring of each kind of quotes, and one with helpers before the function.
PROBLEMS = ["HumanEval/0", "HumanEval/38", "HumanEval/61"]


class Loader(yaml.SafeLoader):
    pass


Loader.add_constructor("!function", lambda loader, node: node.value)


def main():
    tasks = Path(sys.argv[1]) / "tasks" / "humaneval"
    task = lambda name: yaml.load((tasks / name).read_text(), Loader)
    base, instruct = task("humaneval.yaml"), task("humaneval_instruct.yaml")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(PACK, gguf_file=FILE)
    with gzip.open(PACK / "humaneval" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        problems = {problem["task_id"]: problem for problem in map(json.loads, file)}
    prompts = []
    for task_id in PROBLEMS:
        render = lambda template: environment.from_string(template).render(**problems[task_id])
        texts = {"base": render(base["doc_to_text"])}
        chat = [{"role": "user", "content": render(instruct["doc_to_text"])},
                {"role": "assistant", "content": render(instruct["gen_prefix"])}]
        texts["instruct"] = tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=False, continue_final_message=True)
        prompts += [{"task_id": task_id, "form": form, "tail": text[-40:], "tokens": tokenizer(text)["input_ids"]}
                    for form, text in texts.items()]
    record = {"made_by": f"lm-evaluation-harness 0.4.13's tasks, transformers {transformers.__version__}",
              "stop": base["generation_kwargs"]["until"], "prompts": prompts}
    (HERE / "prompts.json").write_text(json.dumps(record).replace('{"task_id"', '\n{"task_id"') + "\n")


if __name__ == "__main__":
    main()
