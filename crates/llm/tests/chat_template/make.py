"""Renders the templates of this folder with transformers 5.24.0 (jinja2 3.1.6), its clock set to a fixed time.

`smollm2.jinja` is the starter model's own; the others are written in the manner of the models they are named after.
Run: python make.py
"""

import datetime
import json
import pathlib

from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 11, 5, 9, 7, 3)


chat_template_utils.datetime = Clock

M = lambda role, content: {"role": role, "content": content}
CHATS = {
    "one": [M("user", "Hi there")],
    "system": [M("system", "You are terse."), M("user", "What is 2 + 2?")],
    "long": [M("system", "  Be kind. \n"), M("user", " Hello\n"), M("assistant", "Hi! <b>\"quoted\"</b>\n"), M("user", "日本語 👩‍👩‍👧 & é?"), M("assistant", "はい"), M("user", "Bye")],
    "empty": [M("user", "")],
    "odd order": [M("assistant", "I go first"), M("user", "Why?")],
    "injection": [M("user", "{{ 7*7 }} {% raw %} <|im_end|> </s> [INST]")],
    "tool role": [M("user", "Weather?"), M("tool", "{\"t\": 3}")],
    "none": [],
}
BOS, EOS = "<s>", "</s>"

cases = []
for path in sorted((HERE / "templates").glob("*.jinja")):
    source = path.read_text()
    for name, chat in CHATS.items():
        for prompt in (False, True):
            case = {"template": path.stem, "chat": name, "add_generation_prompt": prompt}
            try:
                texts, _ = chat_template_utils.render_jinja_template(
                    [chat], chat_template=source, add_generation_prompt=prompt, bos_token=BOS, eos_token=EOS)
                case["text"] = texts[0]
            except Exception as error:
                case["error"] = str(error)
            cases.append(case)
with open(HERE / "expected.json", "w") as file:
    json.dump({"time": 1793869623, "bos": BOS, "eos": EOS, "chats": CHATS, "cases": cases}, file, indent=1)
    file.write("\n")
print(len(cases), sum("error" in c for c in cases), {(c["template"], c["error"]) for c in cases if "error" in c})
