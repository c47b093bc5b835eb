"""What a tokenizer.json may hold: a closed list, so that no file of somebody else
makes its reader stop or grow.

The tokenizers library runs whatever a file asks for: regular expressions that take the time of the
universe, and replacements that double a text dozens of times. So parts, parameters and patterns are
listed here, sizes are bounded, and a file with anything else is refused before the library sees it.
Two files of one digest give the same ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from pellucid.data.patterns import PATTERNS, pretoken_pattern
from pellucid.store import files

LONGEST = 1024  # Characters of a token: what a text decodes to stays within bounds.
_ADDED = (
    1 << 16,
    1 << 20,
)  # Added tokens, and characters of them all: a search automaton is made of them.
_HOLES = 1 << 16  # Ids that no token has.
_PARTS = 32  # Of one pipeline, all levels together.
_GROWTH = 16  # How many times longer replacements may make a text.
_WORD = 1000  # Characters of a word that WordPiece looks at, in the square of its length.


class NotAllowed(ValueError):
    """The message says what the file holds that is not on the list."""


Check = Callable[[Any], bool]


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _maybe_flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 64


def _maybe_short(value: Any) -> bool:
    return value is None or _short(value)


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _WORD


def _pattern(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((kind, text),) = value.items()
    if kind == "String":
        return _short(text) and text != ""
    return kind == "Regex" and (text in PATTERNS or text in _ours())


@cache
def _ours() -> frozenset[str]:
    return frozenset(pretoken_pattern(longest) for longest in range(1, 257))


_BYTES = {"add_prefix_space": _flag, "trim_offsets": _flag, "use_regex": _flag}
_META = {
    "replacement": _short,
    "add_prefix_space": _flag,
    "prepend_scheme": _short,
    "split": _flag,
    "str_rep": _short,
}
_REPLACE = {"pattern": _pattern, "content": _short}
_AROUND = {
    "sep": lambda value: True,
    "cls": lambda value: True,
    "trim_offsets": _flag,
    "add_prefix_space": _flag,
}

# By the file's key: the name of a sequence's list, and each part with its parameters.
PARTS: dict[str, tuple[str, dict[str, dict[str, Check]]]] = {
    "normalizer": (
        "normalizers",
        {
            "BertNormalizer": {
                "clean_text": _flag,
                "handle_chinese_chars": _flag,
                "strip_accents": _maybe_flag,
                "lowercase": _flag,
            },
            "ByteLevel": {},
            "Lowercase": {},
            "NFC": {},
            "NFD": {},
            "NFKC": {},
            "NFKD": {},
            "Nmt": {},
            "Prepend": {"prepend": _short},
            "Replace": _REPLACE,
            "Strip": {"strip_left": _flag, "strip_right": _flag},
            "StripAccents": {},
        },
    ),
    "pre_tokenizer": (
        "pretokenizers",
        {
            "BertPreTokenizer": {},
            "ByteLevel": _BYTES,
            "CharDelimiterSplit": {"delimiter": _short},
            "Digits": {"individual_digits": _flag},
            "FixedLength": {"length": lambda value: _count(value) and value > 0},
            "Metaspace": _META,
            "Punctuation": {"behavior": _short},
            "Split": {"pattern": _pattern, "behavior": _short, "invert": _flag},
            "UnicodeScripts": {},
            "Whitespace": {},
            "WhitespaceSplit": {},
        },
    ),
    # Never handed to the library: it adds tokens. Read for the one that begins a document.
    "post_processor": (
        "processors",
        {
            "BertProcessing": _AROUND,
            "ByteLevel": _BYTES,
            "RobertaProcessing": _AROUND,
            "TemplateProcessing": {
                name: lambda value: True for name in ("single", "pair", "special_tokens")
            },
        },
    ),
    "decoder": (
        "decoders",
        {
            "BPEDecoder": {"suffix": _short},
            "ByteFallback": {},
            "ByteLevel": _BYTES,
            "Fuse": {},
            "Metaspace": _META,
            "Replace": _REPLACE,
            "Strip": {"content": _short, "start": _count, "stop": _count},
            "WordPiece": {"prefix": _short, "cleanup": _flag},
        },
    ),
}
MODELS: dict[str, dict[str, Check]] = {
    "BPE": {
        "dropout": lambda value: value is None or value == 0,  # Else one text has many encodings.
        "unk_token": _maybe_short,
        "continuing_subword_prefix": _maybe_short,
        "end_of_word_suffix": _maybe_short,
        "fuse_unk": _flag,
        "byte_fallback": _flag,
        "ignore_merges": _flag,
        "vocab": lambda value: isinstance(value, dict),
        "merges": lambda value: isinstance(value, list) and all(map(_merge, value)),
    },
    "Unigram": {
        "unk_id": lambda value: value is None or type(value) is int,
        "byte_fallback": _flag,
        "vocab": lambda value: isinstance(value, list) and all(map(_scored, value)),
    },
    "WordLevel": {"unk_token": _maybe_short, "vocab": lambda value: isinstance(value, dict)},
    "WordPiece": {
        "unk_token": _maybe_short,
        "continuing_subword_prefix": _short,
        "max_input_chars_per_word": _count,
        "vocab": lambda value: isinstance(value, dict),
    },
}
_TOP = {
    "version",
    "truncation",
    "padding",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
}
_MARKS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def _merge(value: Any) -> bool:
    """A pair, or both parts with one space between. The library takes a line that begins with
    #version for a header: two files of one digest would have other merges."""
    if isinstance(value, str):
        return value.count(" ") == 1 and not value.startswith("#version")
    return (
        isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)
    )


def _scored(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
        return False
    return (
        isinstance(value[1], float | int)
        and not isinstance(value[1], bool)
        and abs(value[1]) <= 1e6
    )


def parse(content: bytes) -> dict[str, Any]:
    """A tokenizer.json, held against the list. Raises NotAllowed, ValueError, RecursionError."""
    parsed = files.parse_json(content)
    if not isinstance(parsed, dict):
        raise NotAllowed("it is not a JSON object")
    if extra := sorted(set(parsed) - _TOP - {"model"}):
        raise NotAllowed(f"it has the key {extra[0][:40]!r}")
    for key in PARTS:
        _check_pipeline(parsed.get(key), key)
    _check_model(parsed.get("model"))
    _check_tokens(parsed)
    return parsed


def parts_of(parsed: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The parts of a pipeline in the order in which they work; a
    sequence's own parts in its place."""
    return list(_flat(parsed.get(key), key))


def _flat(part: Any, key: str, depth: int = 0) -> Iterator[dict[str, Any]]:
    if part is None and depth == 0:
        return
    if not isinstance(part, dict) or depth > 4:
        raise NotAllowed(f"its {key} is not a part, or lies too deep")
    inner, name = PARTS[key][0], part.get("type")
    if name != "Sequence":
        yield part
        return
    if set(part) != {"type", inner} or not isinstance(part[inner], list):
        raise NotAllowed(f"a Sequence of its {key} has other fields than type and {inner}")
    for inner_part in part[inner]:
        yield from _flat(inner_part, key, depth + 1)


def _check_pipeline(part: Any, key: str) -> None:
    growth = 1.0
    for number, step in enumerate(_flat(part, key)):
        if number >= _PARTS:
            raise NotAllowed(f"its {key} has more than {_PARTS} parts")
        _check_fields(step, PARTS[key][1], key)
        if step["type"] == "Replace":
            text = step["pattern"].get("String", "x")
            growth *= max(1.0, len(step["content"].encode()) / len(text.encode()))
    if growth > _GROWTH:
        raise NotAllowed(f"its {key} can make a text more than {_GROWTH} times longer")


def _check_fields(part: dict[str, Any], known: dict[str, dict[str, Check]], key: str) -> None:
    name = part.get("type")
    if not isinstance(name, str) or name not in known:
        raise NotAllowed(
            f"its {key} is of type {str(name)[:40]!r}, which is not one of {', '.join(known)}"
        )
    for field, value in part.items():
        if field == "type":
            continue
        check = known[name].get(field)
        if check is None or not check(value):
            raise NotAllowed(
                f"its {key} {name} has {field[:40]} = {str(value)[:200]}, which is not on the list"
            )


def _check_model(model: Any) -> None:
    if not isinstance(model, dict):
        raise NotAllowed("it has no model")
    if "type" not in model and "merges" in model:
        model = {"type": "BPE", **model}  # Files from before models had types.
    _check_fields(model, MODELS, "model")
    if "vocab" not in model or (model["type"] == "BPE" and "merges" not in model):
        raise NotAllowed("its model has no vocabulary, or no merges")


def _check_tokens(parsed: dict[str, Any]) -> None:
    """Every token has an id of its own, added ones the id that they say, and none is long."""
    added = parsed.get("added_tokens", [])
    if not isinstance(added, list) or len(added) > _ADDED[0] or not all(map(_is_added, added)):
        raise NotAllowed("its added_tokens are not a list of tokens")
    if sum(len(one["content"]) for one in added) > _ADDED[1]:
        raise NotAllowed(f"its added tokens have more than {_ADDED[1]} characters")
    ids = ids_of(parsed)
    if len(set(ids.values())) != len(ids):
        raise NotAllowed("two of its tokens have one id")
    if any(not 0 < len(token) <= LONGEST for token in ids):
        raise NotAllowed(f"one of its tokens has no character, or more than {LONGEST}")
    if max(ids.values(), default=-1) >= len(ids) + _HOLES:
        raise NotAllowed(f"more than {_HOLES} of its ids are no token's")


def _is_added(token: Any) -> bool:
    return (
        isinstance(token, dict)
        and set(token) <= {"id", "content", *_MARKS}
        and isinstance(token.get("content"), str)
        and all(_flag(token.get(mark, False)) for mark in _MARKS)
    )


def ids_of(parsed: dict[str, Any]) -> dict[str, int]:
    """Every token of the file and its id, as the library gives them out. Raises NotAllowed."""
    vocabulary = parsed["model"]["vocab"]
    if isinstance(vocabulary, list):
        named = {token: number for number, (token, _) in enumerate(vocabulary)}
        if len(named) != len(vocabulary):
            raise NotAllowed("one of its tokens stands there twice")
    else:
        named = dict(vocabulary)
    added = {one["content"]: one.get("id") for one in parsed.get("added_tokens", [])}
    if len(added) != len(parsed.get("added_tokens", [])):
        raise NotAllowed("one of its added tokens stands there twice")
    for token, number in (*named.items(), *added.items()):
        if type(number) is not int or not 0 <= number < 1 << 32:
            raise NotAllowed(f"its token {token[:40]!r} has the id {str(number)[:40]}")
        if named.setdefault(token, number) != number:
            raise NotAllowed(f"its token {token[:40]!r} has two ids")
    return named
