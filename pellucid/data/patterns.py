"""The patterns that split texts: ours, and those of tokenizers in use.

A regular expression can take time in a power of a text's length, or more. Those here take time in
its length: each was read for that. A new one is one more line."""

from __future__ import annotations


def pretoken_pattern(longest: int) -> str:
    """The pattern that cuts text before merging: words, numbers of up
    to three digits, signs, spaces.

    A word, or a run of signs, takes one space before it along. Every character is matched, and no
    match is longer than `longest` characters, which keeps training linear on unbroken runs.
    """
    space, rest = (" ?", longest - 1) if longest > 1 else ("", 1)
    digits = min(3, rest)
    return (
        rf"{space}\p{{L}}{{1,{rest}}}|{space}\p{{N}}{{1,{digits}}}"
        rf"|{space}[^\s\p{{L}}\p{{N}}]{{1,{rest}}}"
        rf"|\s{{1,{longest}}}(?!\S)|\s{{1,{longest}}}"
    )


CHARACTER = r"[\s\S]"

RUN = r"[\s\S]{1,%d}"  # Pieces of so many characters.

_ENDINGS = r"'s|'t|'re|'ve|'m|'ll|'d"
_SPACES = r"|\s+(?!\S)|\s+"
_LINES = rf"|\s*[\r\n]+{_SPACES}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"


def _cased(ending: str, digits: str) -> str:
    """Words cut where small letters end and capitals begin."""
    words = rf"{_BEFORE}{_UPPER}*{_LOWER}+{ending}|{_BEFORE}{_UPPER}+{_LOWER}*{ending}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{_LINES}"


def _cl100k(digits: str) -> str:
    """Words with any sign before them, endings in any case, lines."""
    return rf"(?i:{_ENDINGS})|{_BEFORE}\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*{_LINES}"


# What runtimes know by name, as the tokenizer.json published under it has it: of Llama 3
# and Qwen2 (their Split), of gpt-oss and GPT-4o (o200k_base in tiktoken), of GPT-2
# (ByteLevel's own, its encoder.py).
NAMED = {
    "llama3": _cl100k(r"\p{N}{1,3}"),
    "qwen2": _cl100k(r"\p{N}"),
    "gpt2": rf"{_ENDINGS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+{_SPACES}",
    "o200k": _cased(rf"(?i:{_ENDINGS})?", r"\p{N}{1,3}"),
}

PATTERNS = frozenset(
    {
        CHARACTER,
        *NAMED.values(),
        _cl100k(r"\p{N}{1,2}"),
        rf"'(?i:[sdmt]|ll|ve|re)|{_BEFORE}+\p{{L}}+|\p{{N}}{{1,3}}"
        rf"| ?[^\s\p{{L}}\p{{N}}]++[\r\n]*|\s*[\r\n]{_SPACES}",
        # Qwen of later years: marks belong to their letters.
        rf"(?i:{_ENDINGS})|{_BEFORE}[\p{{L}}\p{{M}}]+|\p{{N}}"
        rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*{_LINES}",
        # Mistral's Tekken.
        _cased("", r"\p{N}"),
        # DeepSeek: several Splits, one after the other.
        r"\p{N}{1,3}",
        r"[一-龥぀-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*{_LINES}",
        r"[\r\n]",
        r"\s?\p{L}+",
        r"\s?\p{P}+",
        r"[一-龥ࠀ-一가-퟿]+",
        # BLOOM; Falcon's digits; runs of spaces, as T5's normalizer has them.
        r" ?[^(\s|[.,!?…。，、।۔،])]+",
        r"[0-9][0-9][0-9]",
        r"[0-9]",
        r"\d",
        r"\d+",
        r"\p{N}",
        r"\p{N}+",
        r"\s+",
        r" {2,}",
        r".",
        "",
    }
)


def split_pattern(name: str, longest: int) -> str:
    """The pattern of this name; only ours, "pellucid", depends on the
    most characters of a piece."""
    return pretoken_pattern(longest) if name == "pellucid" else NAMED[name]
