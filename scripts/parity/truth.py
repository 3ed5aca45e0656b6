"""What a GGUF model says in float32, by transformers: the truth that parity is measured against.

    python truth.py MODEL.gguf OUT.safetensors LENGTH TEXT...

For every TEXT, a UTF-8 file, one sequence of LENGTH tokens (beginning-of-text first where the file asks for it). Writes

    tokens  i32 [texts, LENGTH]
    logits  f32 [texts, LENGTH, vocabulary]

and, in the metadata, the SHA-256 of every tensor of the file as gguf dequantises it to f32 (row-major), so that another decoder of the blocks
can be compared bit by bit.
"""

import hashlib
import json
import os
import sys

import gguf
import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def field(reader: gguf.GGUFReader, name: str):
    found = reader.fields.get(name)
    return None if found is None else found.contents()


def tensor_hashes(reader: gguf.GGUFReader) -> dict[str, str]:
    hashes = {}
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype("<f4", copy=False)
        hashes[tensor.name] = hashlib.sha256(np.ascontiguousarray(values)).hexdigest()
    return hashes


def token_rows(reader: gguf.GGUFReader, folder: str, file: str, texts: list[str], length: int) -> np.ndarray:
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    first = [field(reader, "tokenizer.ggml.bos_token_id")] if field(reader, "tokenizer.ggml.add_bos_token") else []
    rows = []
    for path in texts:
        with open(path, encoding="utf-8") as handle:
            # More characters than any tokenizer needs for so many tokens.
            text = handle.read()[: length * 16]
        ids = first + tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) < length:
            sys.exit(f"{path}: {len(ids)} tokens, {length} are needed")
        rows.append(ids[:length])
    return np.array(rows, dtype=np.int32)


def main() -> None:
    model_path, out, length, *texts = sys.argv[1:]
    folder, file = os.path.split(os.path.abspath(model_path))
    reader = gguf.GGUFReader(model_path)
    tokens = token_rows(reader, folder, file, texts, int(length))

    torch.set_grad_enabled(False)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    print(json.dumps(model.config.to_dict(), default=str), file=sys.stderr)

    logits = np.stack([model(torch.from_numpy(row[None]).long(), use_cache=False).logits[0].numpy() for row in tokens])
    save_file({"tokens": tokens, "logits": logits}, out, metadata={"dequantized": json.dumps(tensor_hashes(reader))})


if __name__ == "__main__":
    main()
