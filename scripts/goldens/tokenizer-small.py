"""Small tokenizers and the ids that their own implementations give to texts.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3
    python scripts/goldens/tokenizer-small.py packages/transformer/test/goldens/tokenizers

Writes

    texts.json              the texts
    <name>.tokenizer.json   byte-level BPE as four model families have it, BPE with byte fallback, and unigram, by `tokenizers`
    <name>.ids.json         their ids: { special: [...] } with special tokens parsed, { plain: [...] } without
    <name>.pieces.json      SentencePiece BPE: tokens, scores, types (as GGUF numbers them), and ids

Every file is a function of the versions above and of this script.
"""

import io
import json
import os
import random
import sys

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

WORDS = (
    "the of and to in that is it was for on with as at by from whale sea ship captain water white old time great "
    "der die und das nicht ein Straße über schön le la les être français où señor niño que "
    "кит море и не на что люди корабль 日本語 中文 文字 漢字 かな カタカナ 한국어 바다 العربية البحر नमस्ते दुनिया θάλασσα "
    "function return const value index length x += 1; == != {} [] () => // # 123 1984 3.14 2024-01-02"
).split(" ")

TEXTS = [
    "",
    " ",
    "  ",
    "a",
    " a",
    "Hello, world!",
    "The whale, the white whale! It's been years; I'd say they'll see, WE'LL SEE.",
    "  two  spaces   and    more\n\n\nlines\t\ttabs \n \r\n end  ",
    "numbers 1 22 333 4444 55555 3.14159 1,000,000 ½ ² ٣٤٥ Ⅷ",
    "Straße über schön français où niño ÀÉÎÕÜ",
    "е\u0301 e\u0301 a\u0308 \u0301alone ỹ ก็ नमस्ते",
    "кит и море, θάλασσα, العربية البحر, שלום",
    "日本語の文字と漢字、カタカナ。中文,한국어 바다",
    "😀 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷 ❤️ 𝔘𝟙 \U0010ffff",
    "\u0001\u0007\u001b\u007f\u0085\u00a0\u2003\u2028\u200b\u200d\u3000\ufeff\ufffd\ue000",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|><|im_end|>",
    "<tool>call</tool> <tool><tool>",
    "<0x0A> <s> </s> <unk> ▁under ▁▁ the▁whale",
    "if (x == 1) { return value[index]; } // done",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "........ ======== -------- ________ !!!??? \"quoted\" 'single' `code` ```block```",
    "the whale" * 60,
]

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def corpus():
    rng = random.Random(1)
    lines = []
    for _ in range(1200):
        words = [rng.choice(WORDS) for _ in range(rng.randrange(3, 14))]
        lines.append(rng.choice([" ", " ", " ", "  ", "\n"]).join(words) + rng.choice([".", ",", "!", "\n", "\n\n", ""]))
    return lines


def split(pattern):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


BYTE_LEVEL = {
    "gpt-2": (pre_tokenizers.ByteLevel(add_prefix_space=False), False),
    "smollm": (
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        ),
        False,
    ),
    "llama-bpe": (split(CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + TAIL), True),
    "qwen2": (split(CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + TAIL), False),
}


def add_tokens(tokenizer):
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in ["<|im_start|>", "<|im_end|>"]])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in ["<tool>", "</tool>"]])


def byte_level(name):
    pre_tokenizer, ignore_merges = BYTE_LEVEL[name]
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False))
    add_tokens(tokenizer)
    return tokenizer


def byte_fallback(name):
    """As the tokenizer.json of SentencePiece models is: no pre-tokenizer, ▁ for spaces, <0x00> to <0xFF>."""
    prefix = name == "prefixed"
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always" if prefix else "never")
    first = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=first, show_progress=False, limit_alphabet=200)
    trained.train_from_iterator(corpus(), trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(model["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    steps = [normalizers.Prepend("▁")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    tail = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *tail])
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in first[:3]])
    if not prefix:  # of the model's own tokens, as Gemma has them
        tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in ["▁▁", "▁the"]])
    add_tokens(tokenizer)
    return tokenizer


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(vocab_size=500, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    add_tokens(tokenizer)
    return tokenizer


def pieces(prefix):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=model,
        model_type="bpe",
        vocab_size=900,
        character_coverage=0.98,
        byte_fallback=True,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        user_defined_symbols=[] if prefix else ["  ", "   ", "\n\n", "<tool>"],
        control_symbols=["<|im_start|>", "<|im_end|>"],
        num_threads=1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(processor.get_piece_size())

    def kind(token):
        if processor.is_unknown(token):
            return 2
        if processor.is_control(token):
            return 3
        if processor.is_byte(token):
            return 6
        return 4 if not prefix and processor.id_to_piece(token) in ("▁▁", "▁▁▁", "\n\n", "<tool>") else 1

    types = [kind(token) for token in ids]
    # Tokens of users are written with their own spaces in GGUF files.
    tokens = [processor.id_to_piece(token).replace("▁", " ") if types[token] == 4 else processor.id_to_piece(token) for token in ids]
    return {
        "tokens": tokens,
        "scores": [processor.get_score(token) for token in ids],
        "types": types,
        "ids": [processor.encode(text) for text in TEXTS],
    }


def write(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=True, separators=(",", ":"))
        file.write("\n")


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    write(folder, "texts.json", TEXTS)
    tokenizers = {name: byte_level(name) for name in BYTE_LEVEL}
    tokenizers |= {name: byte_fallback(name) for name in ["spaced", "prefixed"]}
    tokenizers["unigram"] = unigram()
    for name, tokenizer in tokenizers.items():
        write(folder, f"{name}.tokenizer.json", json.loads(tokenizer.to_str()))
        special = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        tokenizer.encode_special_tokens = True
        plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        write(folder, f"{name}.ids.json", {"special": special, "plain": plain})
    write(folder, "spaced.pieces.json", pieces(False))
    write(folder, "prefixed.pieces.json", pieces(True))


main()
