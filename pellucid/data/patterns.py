"""The patterns that split texts: ours, and those of tokenizers in use.

A regular expression can take time in a power of a text's length, or more. Those here take time in its length: each
was read for that. A new one is one more line.
"""

from __future__ import annotations


def pretoken_pattern(longest: int) -> str:
    """The pattern that cuts text before merging: words, numbers of up to three digits, signs, spaces.

    A word, or a run of signs, takes one space before it along. Every character is matched, and no
    match is longer than `longest` characters, which keeps training linear on unbroken runs.
    """
    space, rest = (" ?", longest - 1) if longest > 1 else ("", 1)
    digits = min(3, rest)
    return (
        rf"{space}\p{{L}}{{1,{rest}}}|{space}\p{{N}}{{1,{digits}}}|{space}[^\s\p{{L}}\p{{N}}]{{1,{rest}}}"
        rf"|\s{{1,{longest}}}(?!\S)|\s{{1,{longest}}}"
    )


CHARACTER = r"[\s\S]"

_ENDINGS = r"'s|'t|'re|'ve|'m|'ll|'d"
_SPACES = r"|\s+(?!\S)|\s+"
_LINES = rf"|\s*[\r\n]+{_SPACES}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"


def _cased(ending: str, digits: str) -> str:
    """Words cut where small letters end and capitals begin."""
    words = rf"{_BEFORE}{_UPPER}*{_LOWER}+{ending}|{_BEFORE}{_UPPER}+{_LOWER}*{ending}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{_LINES}"


PATTERNS = frozenset(
    {
        CHARACTER,
        # GPT-2, as a Split of its own; and cl100k, which Llama 3 and OLMo 2 took over, for three digits, two, or one.
        rf"{_ENDINGS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+{_SPACES}",
        *(
            rf"(?i:{_ENDINGS})|{_BEFORE}\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*{_LINES}"
            for digits in (r"\p{N}{1,3}", r"\p{N}{1,2}", r"\p{N}")
        ),
        rf"'(?i:[sdmt]|ll|ve|re)|{_BEFORE}+\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]++[\r\n]*|\s*[\r\n]{_SPACES}",
        # Qwen of later years: marks belong to their letters.
        rf"(?i:{_ENDINGS})|{_BEFORE}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*{_LINES}",
        # o200k, and Mistral's Tekken.
        _cased(rf"(?i:{_ENDINGS})?", r"\p{N}{1,3}"),
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
