"""Makes the reference encodings of this folder with tokenizers 0.23.3 and sentencepiece 0.2.3.

  corpus.json       texts that tokenizers get wrong
  bytelevel.json    a tiny byte-level BPE vocabulary as GGUF metadata, and the ids of every text for each pre-tokenizer,
                    with the patterns as the models' own tokenizer.json files have them (Oniguruma, another regex engine
                    than Billion's)
  bytelevel_tokenizer.json  the same vocabulary as a tokenizer.json in the style of Llama 3
  sentencepiece.json  a tiny SentencePiece BPE vocabulary as GGUF metadata, and the ids by sentencepiece itself
  sentencepiece_tokenizer.json  the same vocabulary as a tokenizer.json in the style of Llama 2
  starter.json      ids of every text for the starter model's GGUF, its pipeline built as SmolLM2's tokenizer.json is

Run in this folder: python make.py ../../../../starter/pack/SmolLM2-135M-Instruct.Q4_1.gguf
"""

import io
import json
import sys

import gguf
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "", " ", "  ", "\n", "\n\n", "\t", " \n ", "\r\n", "Hello", " Hello", "Hello ", "  Hello  world  ",
    "Hello, world! How's it going? I'm fine; they're not, we've gone, he'd go, she'll stay, it's IT'S 'Tis.",
    "DON'T SHOUT: I'LL, YOU'RE, WE'VE, 'S 'T",
    "def f(x):\n    if x > 1_000:\n        return x**2  # square\n\treturn None\n\n\n",
    "for (int i=0;i<10;++i){a[i]+=b[i]&&c||d;}//end", "<html>\r\n  <p class=\"a\">&amp;</p>\r\n</html>",
    "1", "12", "123", "1234", "12345678901234567890", "3.14159 1,000,000 1e-5 0x1F ½ Ⅷ ٣٤ 2²", "a1b22c333",
    "日本語の文章です。漢字とカナ。", "你好，世界！", "한국어 텍스트", "Привет, мир!", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया", "ไทย",
    "👩‍👩‍👧‍👦 family", "🏳️‍🌈🇩🇪👍🏽", "e\u0301 vs \u00e9, n\u0303, a\u030a\u0323", "naïve café Straße ŒUVRE İstanbul ſ",
    "zero\u200bwidth\u00a0nbsp\u3000ideographic\u2003em", "\ufeffBOM", "\u0000null\u0001", "tab\there\t\ttwo",
    " leading", "trailing ", "   three", "a  b   c    d     e", "line\n line\n  line\n\n   end", "x\n\n\ny", "x \n \n y", "  \n",
    "…—–“quoted” ‘single’ «g» ¿qué? ¡sí!", "$100 €50 £20 100% #1 @you a+b=c ~^`|\\", "!!!???...,,,;;;:::", "___---===***",
    "http://example.com/path?query=1&b=2#frag", "user@example.com", "C:\\Windows\\System32", "snake_case camelCase PascalCase kebab-case",
    "<s>", "</s>", "<unk>", "<0x0A>", "<|im_start|>user\nHi<|im_end|>\n", "<|endoftext|>", "a</s>b", "▁", "▁a▁b", "Ġ Ċ",
    "the the the the", "theatre breathe other", "ab" * 300, "Donaudampfschifffahrtsgesellschaftskapitän", "aaaaaaaaaaaaaaaaaaaaaaaaa",
    " " * 40 + "x", "\n" * 20 + "x", "𝕳𝖊𝖑𝖑𝖔 𐍈 𠜎", "\U0010ffff", "A\u0300\u0301\u0302\u0303", "'", "''s", "' s", "s't",
]

TRAIN = [
    "The theatre breathes while the other brothers gather there, and then they thank the weather.",
    "def function(value):\n    return value + 1\n\nfor index in range(1000):\n    print(index, 123, 4567)\n",
    "It's what they're saying; we've said I'm here, she'll go. DON'T STOP. He'd rather not.",
    "日本語の文章です。漢字とカナ。 Привет, мир! naïve café", "Hello, world! Hello  world.   Three   spaces    four.\n\n\nend",
    "1 12 123 1234 2024 100 1000 3.14 aaaa aaaaaaaa abab ababab http://example.com ... !!! === ---",
] * 3

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def cut(*steps):
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


PRE = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "olmo": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    "llama-bpe": cut(split(LLAMA3)),
    "stablelm2": cut(split(QWEN2)),
    "qwen2": cut(split(QWEN2)),
    "default": cut(split(r"[\p{P}\$\+<=>\^~\|]+"), split(GPT2), split(r"\p{N}+"), split("[0-9][0-9][0-9]")),
}

# Their tokenizers normalize: GPT-NeoX's and Qwen's by tokenizer.json, StableLM 2's by tokenization_arcade100k.py.
COMPOSING = ("olmo", "stablelm2", "qwen2")


def dump(name, value):
    with open(name, "w") as file:
        json.dump(value, file, ensure_ascii=True, separators=(",", ":"))
        file.write("\n")


def encode_all(tokenizer, texts=CORPUS, plain=True):
    tokenizer.encode_special_tokens = plain
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


def byte_level():
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trained = Tokenizer(models.BPE())
    # Cut at newlines only, so that the vocabulary has tokens that a pre-tokenizer must prevent.
    trained.pre_tokenizer = cut(split(r"[^\n]{1,9}|\n+"))
    trainer = trainers.BpeTrainer(vocab_size=560, special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    trained.train_from_iterator(TRAIN + ["  " * 8, "\n\n\n\n", "0123 456 789 1000000", " the", "Hello", "'s 't"], trainer)
    state = json.loads(trained.to_str())
    vocab = state["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.get)
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in state["model"]["merges"]]
    tokens += ["    ", "<user>"]  # user-defined
    types = [3 if t in special else 4 if t in ("    ", "<user>") else 1 for t in tokens]
    ids = {t: i for i, t in enumerate(tokens)}
    expected, marked = {}, {}
    with_special = [t for t in CORPUS if "<|" in t] + ["<|im_start|><|im_end|> a <user>b      c"]
    for name, pre in PRE.items():
        tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, ignore_merges=name == "llama-bpe"))
        if name in COMPOSING:
            tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(special)
        tokenizer.add_tokens([AddedToken("    ", normalized=False), AddedToken("<user>", normalized=False)])
        expected[name] = encode_all(tokenizer)
        marked[name] = encode_all(tokenizer, with_special, plain=False)
        if name == "llama-bpe":
            tokenizer.encode_special_tokens = False
            tokenizer.post_processor = processors.TemplateProcessing(
                single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", ids["<|endoftext|>"])])
            tokenizer.save("bytelevel_tokenizer.json", pretty=False)
    dump("bytelevel.json", {"tokens": tokens, "token_type": types, "merges": [" ".join(m) for m in merges],
                            "expected": expected, "special_texts": with_special, "special_expected": marked})


def sentence_piece():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAIN * 5), model_writer=model, model_type="bpe", vocab_size=480, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, add_dummy_prefix=True,
        allow_whitespace_only_pieces=True, character_coverage=0.98, max_sentence_length=10000, minloglevel=2,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, num_threads=1)
    sp = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    n = sp.get_piece_size()
    tokens = [sp.id_to_piece(i) for i in range(n)]
    types = [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1 for i in range(n)]
    scores = [sp.get_score(i) for i in range(n)]
    dump("sentencepiece.json", {"tokens": tokens, "token_type": types, "scores": scores,
                                "expected": [sp.encode(text) for text in CORPUS],
                                "decoded": [sp.decode(sp.encode(text)) for text in CORPUS]})
    ids = {t: i for i, t in enumerate(tokens)}
    pairs = [(scores[i], len(t[:cut]), t[:cut], t[cut:]) for t, i in ids.items() if types[i] == 1
             for cut in range(1, len(t)) if t[:cut] in ids and t[cut:] in ids]
    merges = [(left, right) for _, _, left, right in sorted(pairs, key=lambda p: (-p[0], p[1]))]
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save("sentencepiece_tokenizer.json", pretty=False)


def starter(path):
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = PRE["smollm"]
    tokenizer.add_special_tokens([t for t, kind in zip(tokens, types) if kind == 3])
    special = [text for text in CORPUS if "<|" in text]
    dump("starter.json", {"expected": encode_all(tokenizer), "special_texts": special,
                          "special_expected": encode_all(tokenizer, special, plain=False)})


dump("corpus.json", CORPUS)
byte_level()
sentence_piece()
starter(sys.argv[1])
