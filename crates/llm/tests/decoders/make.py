"""Makes the tiny decoders of this folder: one file per variant of a DecoderSpec, with logits by transformers.

Tensors carry the role names of `billion_llm::spec` (fused projections split, NeoX heads unfused), the metadata entry
`spec` describes the decoder, `tokens` and `logits` are the oracle. Run: python make.py
Made with torch 2.15.0, transformers 5.24.0, safetensors 0.8; float32, attention "eager".
"""

import json
import pathlib

import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
VOCAB, HIDDEN, LAYERS, TOKENS = 29, 32, 2, 20


def randomize(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if "norm" in name and name.endswith("weight"):
                p.copy_(1.0 + 0.2 * noise)
            elif p.dim() == 1:
                p.copy_(0.2 * noise)
            else:
                p.copy_(noise * (1.5 / p.shape[-1] ** 0.5))


def interleave(weight, heads, dims):
    """Row order of llama.cpp: pairs (i, i + dims/2) become (2i, 2i + 1) in the leading `dims` of each head."""
    out, rest = weight.shape[0], weight.shape[1:]
    w = weight.reshape(heads, out // heads, *rest).clone()
    half = dims // 2
    order = [i // 2 + (i % 2) * half for i in range(dims)]
    w[:, :dims] = w[:, order]
    return w.reshape(out, *rest).contiguous()


def write(name, model, spec, tensors, inv_freq):
    model.eval()
    tokens = torch.randint(0, VOCAB, (TOKENS,), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        logits = model(tokens[None]).logits[0]
    tensors = {k: v.detach().float().contiguous().clone() for k, v in tensors.items()}
    tensors |= {"tokens": tokens, "logits": logits.clone(), "frequencies": inv_freq.float().clone()}
    spec = {"name": name, "vocab_size": VOCAB, "hidden": HIDDEN, "layers": LAYERS} | spec
    save_file(tensors, HERE / f"{name}.safetensors", metadata={"spec": json.dumps(spec)})


def llama(name, seed, pairing):
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=44, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, tie_word_embeddings=pairing == "interleaved",
        rms_norm_eps=1e-5, attn_implementation="eager",
        rope_parameters={"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 32})
    model = transformers.LlamaForCausalLM(config)
    randomize(model, seed)
    t = {"embedding": model.model.embed_tokens.weight, "final_norm.weight": model.model.norm.weight}
    if not config.tie_word_embeddings:
        t["head"] = model.lm_head.weight
    for i, layer in enumerate(model.model.layers):
        p = f"layers.{i}."
        t[p + "attention_norm.weight"] = layer.input_layernorm.weight
        t[p + "mlp_norm.weight"] = layer.post_attention_layernorm.weight
        for role in "qkvo":
            t[p + role + ".weight"] = getattr(layer.self_attn, role + "_proj").weight
        if pairing == "interleaved":
            t[p + "q.weight"] = interleave(t[p + "q.weight"], 4, 8)
            t[p + "k.weight"] = interleave(t[p + "k.weight"], 2, 8)
        for role in ("gate", "up", "down"):
            t[p + role + ".weight"] = getattr(layer.mlp, role + "_proj").weight
    write(name, model, {"heads": 4, "kv_heads": 2, "head_dim": 8, "ffn": 44, "norm": "rms", "eps": 1e-5,
                        "rotary_dims": 8, "pairing": pairing, "residual": "sequential", "mlp": "swiglu",
                        "qk_norm": False, "tied_head": config.tie_word_embeddings}, t, model.model.rotary_emb.inv_freq)


def stablelm(name, seed, twelve):
    config = transformers.StableLmConfig(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=40, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2 if twelve else 4, max_position_embeddings=64, use_qkv_bias=not twelve,
        qk_layernorm=twelve, use_parallel_residual=twelve, layer_norm_eps=1e-5, tie_word_embeddings=False,
        attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5})
    model = transformers.StableLmForCausalLM(config)
    randomize(model, seed)
    t = {"embedding": model.model.embed_tokens.weight, "head": model.lm_head.weight,
         "final_norm.weight": model.model.norm.weight, "final_norm.bias": model.model.norm.bias}
    for i, layer in enumerate(model.model.layers):
        p = f"layers.{i}."
        t[p + "attention_norm.weight"] = layer.input_layernorm.weight
        t[p + "attention_norm.bias"] = layer.input_layernorm.bias
        if not twelve:
            t[p + "mlp_norm.weight"] = layer.post_attention_layernorm.weight
            t[p + "mlp_norm.bias"] = layer.post_attention_layernorm.bias
        for role in "qkvo":
            linear = getattr(layer.self_attn, role + "_proj")
            t[p + role + ".weight"] = linear.weight
            if linear.bias is not None:
                t[p + role + ".bias"] = linear.bias
        if twelve:
            for role in "qk":
                norms = getattr(layer.self_attn, role + "_layernorm").norms
                t[p + role + "_norm"] = torch.stack([norm.weight for norm in norms])
        for role in ("gate", "up", "down"):
            t[p + role + ".weight"] = getattr(layer.mlp, role + "_proj").weight
    write(name, model, {"heads": 4, "kv_heads": config.num_key_value_heads, "head_dim": 8, "ffn": 40, "norm": "layer",
                        "eps": 1e-5, "rotary_dims": 4, "pairing": "halves",
                        "residual": "parallel" if twelve else "sequential", "mlp": "swiglu", "qk_norm": twelve,
                        "tied_head": False}, t, model.model.rotary_emb.inv_freq)


def gpt_neox(name, seed, parallel, act):
    config = transformers.GPTNeoXConfig(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=48, num_hidden_layers=LAYERS, num_attention_heads=4,
        max_position_embeddings=64, use_parallel_residual=parallel, hidden_act=act, layer_norm_eps=1e-5,
        tie_word_embeddings=False, attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25})
    model = transformers.GPTNeoXForCausalLM(config)
    randomize(model, seed)
    body = model.gpt_neox
    head = dict(model.named_parameters()).get("embed_out.weight")
    t = {"embedding": body.embed_in.weight, "head": head if head is not None else model.lm_head.weight,
         "final_norm.weight": body.final_layer_norm.weight, "final_norm.bias": body.final_layer_norm.bias}
    for i, layer in enumerate(body.layers):
        p = f"layers.{i}."
        pairs = {"attention_norm": layer.input_layernorm, "mlp_norm": layer.post_attention_layernorm,
                 "o": layer.attention.dense, "up": layer.mlp.dense_h_to_4h, "down": layer.mlp.dense_4h_to_h}
        for role, module in pairs.items():
            t[p + role + ".weight"], t[p + role + ".bias"] = module.weight, module.bias
        fused = layer.attention.query_key_value
        for j, role in enumerate("qkv"):
            t[p + role + ".weight"] = fused.weight.reshape(4, 3, 8, HIDDEN)[:, j].reshape(HIDDEN, HIDDEN)
            t[p + role + ".bias"] = fused.bias.reshape(4, 3, 8)[:, j].reshape(HIDDEN)
    write(name, model, {"heads": 4, "kv_heads": 4, "head_dim": 8, "ffn": 48, "norm": "layer", "eps": 1e-5,
                        "rotary_dims": 2, "pairing": "halves", "residual": "parallel" if parallel else "sequential",
                        "mlp": "gelu" if act == "gelu" else "gelu_tanh", "qk_norm": False, "tied_head": False},
          t, body.rotary_emb.inv_freq)


llama("llama_halves", 1, "halves")
llama("llama_interleaved", 2, "interleaved")
stablelm("stablelm_2_1_6b", 3, False)
stablelm("stablelm_2_12b", 4, True)
gpt_neox("gpt_neox_parallel", 5, True, "gelu")
gpt_neox("gpt_neox_sequential", 6, False, "gelu_new")
