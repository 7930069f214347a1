//! Tokenizers: from tokenizer.json and from a GGUF vocabulary.
