"""Small tokenizer.json files in the shape of those in use: the same parts, another vocabulary."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pellucid.data import kinds
from pellucid.data.patterns import PATTERNS

TEXTS = [
    "the cat sat on the mat",
    "The MAT, the cat's mat: 1234 <|endoftext|> é 東京\n\n\tif x:",
] * 9
_LLAMA = next(one for one in PATTERNS if one.startswith("(?i:'s") and "{1,3}" in one)
_DEEPSEEK = [
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    next(one for one in PATTERNS if one.startswith("[!")),
]
Content = dict[str, Any]


def added(content: str, number: int, special: bool = True, **marks: bool) -> Content:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, **plain, **marks, "special": special}


def split(pattern: str) -> Content:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def template(*pieces: str) -> Content:
    """[CLS] $A [SEP] as a post-processor; ids are not looked at."""
    single = [
        {"Sequence" if one == "A" else "SpecialToken": {"id": one, "type_id": 0}} for one in pieces
    ]
    known = {one: {"id": one, "ids": [0], "tokens": [one]} for one in pieces if one != "A"}
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": known}


LETTERS = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": False,
}


def byte_pairs(*specials: str, **parts: Any) -> Content:
    """Byte-level BPE with special tokens behind its vocabulary."""
    trained, trainer = kinds.untrained_bpe(420, "pellucid", 16)
    trained.train_from_iterator(TEXTS, trainer)
    content = json.loads(kinds.bpe_file(kinds.merges_of(trained), "pellucid", 16))
    vocabulary = content["model"]["vocab"]
    del vocabulary[kinds.DOCUMENT]
    content["model"]["vocab"] = {token: number for number, token in enumerate(vocabulary)}
    content["added_tokens"] = [
        added(one, len(vocabulary) + number) for number, one in enumerate(specials)
    ]
    return content | parts


def gpt2() -> Content:
    regex = LETTERS | {"use_regex": True}
    made = byte_pairs("<|endoftext|>", pre_tokenizer=regex, post_processor=regex)
    del made["model"]["type"]
    made["model"]["merges"] = [" ".join(pair) for pair in made["model"]["merges"]]
    return made


def llama3() -> Content:
    splits = {"type": "Sequence", "pretokenizers": [split(_LLAMA), LETTERS]}
    both = {"type": "Sequence", "processors": [LETTERS, template("<|begin_of_text|>", "A")]}
    names = ("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>")
    made = byte_pairs(*names, pre_tokenizer=splits, post_processor=both)
    made["model"]["ignore_merges"] = True
    return made


def qwen() -> Content:
    splits = {"type": "Sequence", "pretokenizers": [split(_LLAMA.replace("{1,3}", "")), LETTERS]}
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    made = byte_pairs(
        *names, normalizer={"type": "NFC"}, pre_tokenizer=splits, post_processor=LETTERS
    )
    made["added_tokens"].append(
        added("<tool_call>", made["added_tokens"][-1]["id"] + 1, special=False)
    )
    return made


def deepseek() -> Content:
    splits = {"type": "Sequence", "pretokenizers": [*map(split, _DEEPSEEK), LETTERS]}
    names = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>")
    return byte_pairs(
        *names,
        normalizer={"type": "Sequence", "normalizers": []},
        pre_tokenizer=splits,
        post_processor=LETTERS,
    )


def claude() -> Content:
    names = ("<EOT>", "<META>", "<META_START>", "<META_END>", "<SOS>")
    regex = LETTERS | {"use_regex": True}
    return byte_pairs(
        *names, normalizer={"type": "NFKC"}, pre_tokenizer=regex, post_processor=LETTERS
    )


def gemma() -> Content:
    """Spaces as letters of their own, bytes where a letter is missing, tags of
    HTML as plain added tokens."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<h1>", "</s>"]
    letters = ["▁", *sorted(set("".join(TEXTS).replace(" ", "")) - {"東"})]
    vocabulary = [
        *names,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *letters,
        "th",
        "the",
        "▁the",
    ]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": "<unk>",
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": {token: number for number, token in enumerate(vocabulary)},
        "merges": [["t", "h"], ["th", "e"], ["▁", "the"]],
    }
    back = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    between = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            added(one, number, special=number < 4) for number, one in enumerate(names)
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": between,
        "post_processor": template("<bos>", "A"),
        "decoder": {"type": "Sequence", "decoders": back},
        "model": model,
    }


def esm() -> Content:
    """Letters of proteins, each a token."""
    names = ["<cls>", "<pad>", "<eos>", "<unk>"]
    vocabulary = [*names, *"LAGVSERTIDPKQNFYMHWCXBUZO.-"]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added(one, number) for number, one in enumerate(names)],
        "normalizer": None,
        "pre_tokenizer": split(r"[\s\S]"),
        "post_processor": template("<cls>", "A", "<eos>"),
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "WordLevel",
            "vocab": {token: number for number, token in enumerate(vocabulary)},
            "unk_token": "<unk>",
        },
    }


def bert() -> Content:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = [
        "the",
        "cat",
        "sat",
        "on",
        "mat",
        "##s",
        "[",
        "]",
        *"abcdefghijklmnopqrstuvwxyz,.:'1234",
    ]
    return {
        "version": "1.0",
        "truncation": {
            "direction": "Right",
            "max_length": 4,
            "strategy": "LongestFirst",
            "stride": 0,
        },
        "padding": {
            "strategy": {"Fixed": 9},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": [added(one, number) for number, one in enumerate(names)],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: number for number, token in enumerate([*names, *words])},
        },
    }


# Each shape, the token that begins a document where the file shows it, and whether texts come back.
SHAPES: dict[str, tuple[Callable[[], Content], str, bool]] = {
    "gpt2": (gpt2, "<|endoftext|>", True),
    "llama3": (llama3, "<|begin_of_text|>", True),
    "qwen": (qwen, "", False),
    "deepseek": (deepseek, "", True),
    "claude": (claude, "", False),
    "gemma": (gemma, "<bos>", False),
    "esm": (esm, "<cls>", False),
    "bert": (bert, "[CLS]", False),
}
