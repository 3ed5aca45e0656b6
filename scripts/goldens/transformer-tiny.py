"""Tiny models of every architecture that a config.json can name, with their logits by transformers in float32.

    .cache/parity/venv/bin/python scripts/goldens/transformer-tiny.py packages/transformer/test/goldens

Needs scripts/parity/requirements.txt. Writes one folder per model, as it would lie on the Hub: config.json, model.safetensors (bf16, seeded
random weights large enough that every part moves the logits), tokenizer.json; and golden.safetensors with

    tokens  i32 [length]
    logits  f32 [length, vocabulary]

Every file is a function of the versions in requirements.txt and of this script. The configurations differ where real ones do: old and new
names for the rotary settings, tied and untied output, windows, biases, norms of queries and keys, soft-capping.
"""

import json
import os
import sys

import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM

LENGTH = 32
VOCABULARY = 260  # 256 bytes, three merges, one special token

COMMON = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 259,
    "eos_token_id": 259,
    "torch_dtype": "bfloat16",
}

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

MODELS = {
    "llama": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "num_hidden_layers": 3,
        "num_key_value_heads": 1,
    },
    # Llama 3.1's scaled rotary frequencies, under the old names, and no key for what is the default.
    "llama3": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "rope_theta": 500.0,
        "rope_scaling": LLAMA3_ROPE,
        "tie_word_embeddings": True,
        "head_dim": 16,
    },
    # Biases on queries, keys and values; a window that is there but not used.
    "qwen2": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "rope_theta": 1000000.0,
        "sliding_window": 8,
        "use_sliding_window": False,
        "max_window_layers": 1,
        "tie_word_embeddings": True,
    },
    # Norms of queries and keys, heads wider than hidden_size / heads, the rotary settings under their new name.
    "qwen3": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_act": "silu",
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        "head_dim": 32,
        "attention_bias": False,
        "use_sliding_window": False,
        "tie_word_embeddings": False,
    },
    # A window in every layer.
    "mistral": {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "hidden_act": "silu",
        "rope_theta": 10000.0,
        "sliding_window": 8,
        "tie_word_embeddings": False,
    },
    # Local and global layers with their own rotary bases, linear scaling of the global ones, four norms a layer, scaled embeddings.
    "gemma3": {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh",
        "head_dim": 24,
        "num_hidden_layers": 4,
        "num_key_value_heads": 1,
        "query_pre_attn_scalar": 24,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "sliding_window": 8,
        "sliding_window_pattern": 3,
        "rms_norm_eps": 1e-6,
    },
    # The same under the new names, with the cap on the logits that some of the family have.
    "gemma3-new": {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh",
        "head_dim": 16,
        "num_hidden_layers": 3,
        "query_pre_attn_scalar": 16,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "sliding_window": 6,
        "final_logit_softcapping": 8.0,
        "rms_norm_eps": 1e-6,
    },
}


def tokenizer() -> Tokenizer:
    """Byte-level BPE: every byte, three merges, one special token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("i", "n")]
    tokens = alphabet + [a + b for a, b in merges]
    made = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|end|>"])
    return made


def seeded_weights(config: dict, seed: int) -> dict[str, torch.Tensor]:
    """Random weights under the names and shapes of the architecture, in bf16."""
    values = {key: value for key, value in config.items() if key not in ("architectures", "torch_dtype")}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**values), dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    gemma = config["model_type"].startswith("gemma")
    weights = {}
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("norm.weight"):
            weight = 0.2 * noise + (0.0 if gemma else 1.0)
        elif parameter.dim() == 1:
            weight = 0.5 * noise
        elif "embed_tokens" in name or "lm_head" in name:
            weight = 0.3 * noise
        else:
            weight = noise * 1.5 / parameter.shape[1] ** 0.5
        weights[name] = weight.to(torch.bfloat16).contiguous()
    return weights


def write_model(folder: str, config: dict, seed: int) -> None:
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as handle:
        json.dump(config, handle, indent=2)
        handle.write("\n")
    save_torch(seeded_weights(config, seed), os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    tokenizer().save(os.path.join(folder, "tokenizer.json"), pretty=False)

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokens = torch.randint(0, VOCABULARY, (LENGTH,), generator=torch.Generator().manual_seed(seed + 1000))
    logits = model(tokens[None], use_cache=False).logits[0].float().numpy()
    golden = {"tokens": tokens.numpy().astype(np.int32), "logits": logits}
    save_file(golden, os.path.join(folder, "golden.safetensors"))
    print(f"{os.path.basename(folder)}: |logits| up to {np.abs(logits).max():.2f}, standard deviation {logits.std():.2f}")


def main() -> None:
    torch.set_grad_enabled(False)
    for seed, (name, settings) in enumerate(MODELS.items()):
        write_model(os.path.join(sys.argv[1], name), {**COMMON, **settings}, seed)


if __name__ == "__main__":
    main()
