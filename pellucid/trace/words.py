"""The bytes that each token stands for, and what a search asks of a vocabulary.

Of a byte-level vocabulary a token's letters are its bytes; of a vocabulary of characters a token is
its own text. Where joined tokens do not give the text back, nothing here is used: the index then
keeps the text (trace/build.py)."""

from __future__ import annotations

import bisect
from functools import cached_property

import numpy as np

from pellucid.data.kinds import byte_letters
from pellucid.data.tokenizer import Tokenizer

# Stands for the document token: no byte of UTF-8, so that no match crosses documents.
SEPARATOR = b"\xff"
_AT_ONCE = 1 << 16  # Tokens that are spelled together.


def after(prefix: bytes) -> bytes:
    """The least bytes behind all that begin with `prefix`, which has no byte 0xFF."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Words:
    """A vocabulary as bytes. Make one with Words.of."""

    def __init__(self, words: list[bytes]) -> None:
        """words[i]: the bytes of token i; empty where there is no such token."""
        self.words = words
        self.lengths = np.fromiter(map(len, words), np.int64, len(words))
        self._joined = np.frombuffer(b"".join(words), np.uint8)
        self._starts = np.cumsum(self.lengths) - self.lengths

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Words | None:
        """The vocabulary of a tokenizer; None where its tokens have no bytes of their own."""
        tokens, added = tokenizer.tokens, tokenizer.added
        letters = {letter: byte for byte, letter in byte_letters().items()}
        words = [b""] * tokenizer.vocabulary
        for token, number in tokens.items():
            plain = not tokenizer.byte_level or token in added
            try:
                words[number] = (
                    token.encode("utf-8") if plain else bytes(letters[letter] for letter in token)
                )
            except (KeyError, UnicodeEncodeError):
                return None
        words[tokenizer.document_token] = SEPARATOR
        return cls(words)

    def text(self, ids: np.ndarray) -> np.ndarray:
        """The bytes of tokens, ids of shape (N,), one after the other: shape (bytes,) uint8."""
        lengths = self.lengths[ids]
        begins = np.cumsum(lengths) - lengths
        places = np.repeat(self._starts[ids] - begins, lengths)
        places += np.arange(len(places))
        return self._joined[places]

    def spell(self, ids: np.ndarray, text: np.ndarray) -> bool:
        """Whether the bytes of these tokens, shape (N,), one after the other, are the
        text, shape (bytes,) uint8. A token that the vocabulary does not have is no text."""
        if int(ids.max(initial=0)) >= len(self.words):
            return False
        at = 0
        for begin in range(0, len(ids), _AT_ONCE):
            content = b"".join([self.words[i] for i in ids[begin : begin + _AT_ONCE].tolist()])
            if text[at : at + len(content)].tobytes() != content:
                return False
            at += len(content)
        return at == len(text)

    @cached_property
    def characters(self) -> np.ndarray:
        """How many characters begin in each token, shape (vocabulary,) int64:
        bytes that do not continue one."""
        begun = np.concatenate([[0], np.cumsum((self._joined & 0xC0) != 0x80)])
        return begun[self._starts + self.lengths] - begun[self._starts]

    @cached_property
    def _backwards(self) -> tuple[list[bytes], np.ndarray]:
        """The words spelled backwards, sorted, and the token of each: those
        of one ending stand together."""
        turned = [word[::-1] for word in self.words]
        order = sorted(range(len(turned)), key=turned.__getitem__)
        return [turned[number] for number in order], np.array(order, np.int64)

    def ending_with(self, ending: bytes) -> np.ndarray | None:
        """Which tokens end with these bytes and are longer, shape (vocabulary,)
        bool; None where none does."""
        turned, tokens = self._backwards
        key = ending[::-1]
        low = bisect.bisect_right(turned, key)
        high = bisect.bisect_left(turned, after(key), low)
        if low == high:
            return None
        ends = np.zeros(len(self.words), bool)
        ends[tokens[low:high]] = True
        return ends

    @cached_property
    def _sheet(self) -> tuple[bytes, np.ndarray]:
        """All words on one sheet, parted by separators, and where each begins on it."""
        begins = np.cumsum(self.lengths + 1) - self.lengths - 1
        return SEPARATOR.join(self.words), begins

    def holding(self, query: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Every place of the query inside a token, behind its first byte:
        tokens and byte offsets, int64."""
        sheet, begins = self._sheet
        places, at = [], sheet.find(query)
        while at >= 0:
            places.append(at)
            at = sheet.find(query, at + 1)
        found = np.array(places, np.int64)
        tokens = np.searchsorted(begins, found, side="right") - 1
        offsets = found - begins[tokens]
        inside = offsets > 0
        return tokens[inside], offsets[inside]
