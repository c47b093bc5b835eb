"""The stage "tokenizer", and the tokenizer that every other room uses.

A tokenizer is trained once and is data from then on. Those made here are lossless: decode(encode(text))
is the text. Its digest is over the parsed content of tokenizer.json: key order, white space, keys whose
value is null, and the two spellings of a merge ("a b" and ["a", "b"]) do not count.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from pellucid.data import stage
from pellucid.data.parquet import Documents
from pellucid.errors import FormatInvalid, TextInvalid, TokenizerInvalid, VocabularyTooLarge
from pellucid.recipe import Recipe
from pellucid.record import digests
from pellucid.store import files

FILE = "tokenizer.json"
DOCUMENT = "<|document|>"
UNKNOWN = "<|unknown|>"
_DOCUMENT_TOKENS = (DOCUMENT, "<|endoftext|>", "</s>", "<s>", "[SEP]")
_LIMIT = 64 << 20  # Bytes of a tokenizer.json; the largest in use has about 35.
LIMITS = {"uint16": 1 << 16, "uint32": 1 << 32}


def prepare(recipe: Recipe, folder: Path, progress: stage.Progress = stage.silent) -> bool:
    """Write data/tokenizer as one whole folder; returns at once where it is done.

    Raises TokenizerInvalid, VocabularyTooLarge.
    """
    place = folder / stage.TOKENIZER
    documents = Documents.open(folder)
    made_from = digests.of_value("tokenizer stage", _fields(recipe, documents)).hex()
    if stage.done(place, "tokenizer", made_from):
        return False
    stage.forget(folder, stage.TOKENIZER)
    content = _content(recipe, folder, documents, progress)
    made = Tokenizer(content, place / FILE)
    _check_fits(made, recipe)
    with files.whole_folder(place) as partial:
        (partial / FILE).write_bytes(content)
        manifest = {
            "format": stage.FORMAT,
            "kind": "tokenizer",
            "recipe": made_from,
            "digest": digest_of(json.loads(content)).hex(),
            "vocabulary": made.vocabulary,
            "document_token": made.document_token,
            "made_with": {"tokenizers": tokenizers.__version__},
        }
        files.write_json(partial / stage.MANIFEST, manifest)
    return True


def recorded(folder: Path) -> tuple[str, int, int]:
    """The digest, the vocabulary and the document token of a run's tokenizer, as its manifest says.

    Raises FormatInvalid, FormatTooNew, FileMissing.
    """
    path = folder / stage.TOKENIZER / stage.MANIFEST
    about = stage.read_manifest(path, "tokenizer")
    vocabulary = stage.count_in(about, "vocabulary", path, most=LIMITS["uint32"])
    document = stage.count_in(about, "document_token", path)
    if document >= vocabulary:
        raise FormatInvalid(path=path, detail=f"document_token is {document}, and the vocabulary {vocabulary}")
    return stage.digest_in(about, "digest", path), vocabulary, document


def check(recipe: Recipe, folder: Path) -> None:
    """For kind = "file": whether the file is usable, before any work. Raises as prepare does."""
    if recipe.tokenizer.kind == "file":
        path = folder / recipe.tokenizer.path
        _check_fits(Tokenizer(existing(path, follow=True), path), recipe)


def _fields(recipe: Recipe, documents: Documents) -> dict[str, Any]:
    """What this stage depends on."""
    fields = recipe.tokenizer
    needed = {
        "bpe": ("vocabulary", "max_pretoken", "sample_characters"),
        "bytes": (),
        "characters": (),
        "file": ("path",),
    }[fields.kind]
    return {
        "pipeline": recipe.data.pipeline,
        "kind": fields.kind,
        **{name: getattr(fields, name) for name in needed},
        "documents": documents.manifest["root"] if fields.kind in ("bpe", "characters") else "",
    }


def _content(recipe: Recipe, folder: Path, documents: Documents, progress: stage.Progress) -> bytes:
    fields = recipe.tokenizer
    total = int(documents.manifest["characters"])
    total = min(total, fields.sample_characters) if fields.kind == "bpe" else total
    meter = stage.Meter(progress, "tokenizer", "characters", total=total)
    if fields.kind == "file":
        return existing(folder / fields.path, follow=True)
    if fields.kind == "bytes":
        made = _bytes()
    elif fields.kind == "characters":
        made = _characters(documents, meter)
    else:
        made = _bpe(recipe, documents, meter)
    return (made.to_str(pretty=True) + "\n").encode("utf-8")


def existing(path: Path, follow: bool = False) -> bytes:
    """The bytes of a tokenizer.json; follow: of the user's own, which may be reached by a link. Raises
    TokenizerInvalid."""
    if not path.is_file():
        raise TokenizerInvalid(path=path, detail="there is no such file")
    return files.read_bytes(path, _LIMIT, follow)


def _check_fits(made: Tokenizer, recipe: Recipe) -> None:
    kind = recipe.data.token_type
    if made.vocabulary > LIMITS[kind]:
        raise VocabularyTooLarge(vocabulary=made.vocabulary, token_type=kind, limit=LIMITS[kind])


# ---- the kinds ----------------------------------------------------------------------------------


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


def _bpe(recipe: Recipe, documents: Documents, meter: stage.Meter) -> tokenizers.Tokenizer:
    """Byte-level BPE on the train split, or on a sample of it."""
    fields = recipe.tokenizer
    made, trainer = untrained_bpe(fields.vocabulary, fields.max_pretoken)
    made.train_from_iterator(sample(documents, fields.sample_characters, meter), trainer)
    return made


def untrained_bpe(vocabulary: int, max_pretoken: int) -> tuple[tokenizers.Tokenizer, trainers.BpeTrainer]:
    """A byte-level BPE tokenizer without merges, and its trainer."""
    made = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(pretoken_pattern(max_pretoken)), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[DOCUMENT],
        initial_alphabet=[letter for _, letter in sorted(byte_letters().items())],
        show_progress=False,
    )
    return made, trainer


def sample(documents: Documents, wanted: int, meter: stage.Meter) -> Iterator[list[str]]:
    """Train texts, in order, of about `wanted` characters: those whose hash lies below a bound."""
    total = 0
    for batch in documents.rows(["characters"], "train"):
        total += sum(batch.column(0).to_pylist())
    bound = 1 << 64 if total <= wanted else (wanted << 64) // total
    for batch in documents.rows(["sha256", "text"], "train"):
        # The split is decided by the hash's first eight bytes; the sample by the next eight.
        chosen = [int(digest[16:32], 16) < bound for digest in batch.column(0).to_pylist()]
        texts = [text.as_py() for text, taken in zip(batch.column(1), chosen, strict=True) if taken]
        yield texts
        meter.add(sum(map(len, texts)))


def byte_letters() -> dict[int, str]:
    """The printable letter that stands for each byte in byte-level vocabularies."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def _bytes() -> tokenizers.Tokenizer:
    """Byte b is token b + 1."""
    letters = byte_letters()
    vocabulary = {DOCUMENT: 0} | {letters[byte]: byte + 1 for byte in range(256)}
    made = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([DOCUMENT])
    return made


def _characters(documents: Documents, meter: stage.Meter) -> tokenizers.Tokenizer:
    """The documents' characters by code point, train and validation, behind the two special tokens."""
    seen: set[str] = set()
    for batch in documents.rows(["text"]):
        for text in batch.column(0).to_pylist():
            seen.update(text)
            meter.add(len(text))
    vocabulary = {token: i for i, token in enumerate([DOCUMENT, UNKNOWN, *sorted(seen)])}
    made = tokenizers.Tokenizer(models.WordLevel(vocab=vocabulary, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens([DOCUMENT, UNKNOWN])
    return made


# ---- identity and use ---------------------------------------------------------------------------


def digest_of(content: dict[str, Any]) -> bytes:
    """The digest of a tokenizer's logical content, given its parsed tokenizer.json."""
    logical = _without_null(content)
    merges = logical.get("model", {}).get("merges")
    if isinstance(merges, list):
        pairs = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in merges]
        logical["model"]["merges"] = pairs
    return digests.of_value("tokenizer", logical)


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(inner) for key, inner in value.items() if inner is not None}
    return [_without_null(inner) for inner in value] if isinstance(value, list) else value


@contextlib.contextmanager
def _named(path: Path, what: str) -> Iterator[None]:
    """What the library raises, as TokenizerInvalid: plain Exception, or of a panic of its Rust no Exception at all."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise TokenizerInvalid(path=path, detail=f"{what}: {str(error)[:200]}") from error


class Tokenizer:
    """Text to token ids and back. Adds no special token, and text never becomes one."""

    def __init__(self, content: bytes, path: Path) -> None:
        """From the bytes of a tokenizer.json; path names it in errors. Raises TokenizerInvalid."""
        with _named(path, "it cannot be read"):
            parsed = files.parse_json(content)
            made = tokenizers.Tokenizer.from_str(json.dumps(_as_data(parsed)))
        made.no_truncation()
        made.no_padding()
        # Without this, a text that contains "<|document|>" would become the document token.
        made.encode_special_tokens = True
        self._made, self._parsed, self._path = made, parsed, path
        ids = made.get_vocab(with_added_tokens=True)
        self.vocabulary = max(ids.values(), default=-1) + 1
        name = next((name for name in _DOCUMENT_TOKENS if name in ids), None)
        if name is None:
            detail = f"it has none of the tokens that can begin a document ({', '.join(_DOCUMENT_TOKENS)})"
            raise TokenizerInvalid(path=path, detail=detail)
        self.document_token = ids[name]

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """From a stage's folder, a checkpoint, or a run. Raises TokenizerInvalid."""
        path = folder / FILE
        if not path.is_file() and (folder / stage.TOKENIZER / FILE).is_file():
            path = folder / stage.TOKENIZER / FILE
        return cls(existing(path), path)

    @property
    def digest(self) -> bytes:
        return digest_of(self._parsed)

    @property
    def tokens(self) -> dict[str, int]:
        """Every token as the file spells it, and its id."""
        return self._made.get_vocab(with_added_tokens=True)

    @property
    def added(self) -> set[str]:
        """The tokens that stand for their own spelling, whatever the others do."""
        return {token.content for token in self._made.get_added_tokens_decoder().values()}

    @property
    def byte_level(self) -> bool:
        """Whether the letters of a token stand for bytes (byte_letters)."""
        decoder = self._parsed.get("decoder") or {}
        return "ByteLevel" in [one.get("type") for one in (decoder, *decoder.get("decoders", ()))]

    def encode(self, text: str) -> list[int]:
        """The ids of a text. Raises TextInvalid."""
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:  # Lone surrogates stand for bytes that a command line could not decode.
            raise TextInvalid(detail=error) from error
        return self._made.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One uint32 array per text, computed on all cores."""
        encodings = self._made.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        with _named(self._path, "it cannot decode"):
            return self._made.decode([int(i) for i in ids], skip_special_tokens=False)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """The characters [start, end) that each token of encode(text) stands for."""
        return self.encode_with_offsets(text)[1]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Both, from one pass."""
        encoding = self._made.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets


def _as_data(parsed: dict[str, Any]) -> dict[str, Any]:
    """The content with every document token marked special, so that it can be kept out of texts."""
    added = parsed.get("added_tokens") or []
    marked = [token | {"special": True} if token["content"] in _DOCUMENT_TOKENS else token for token in added]
    return parsed | {"added_tokens": marked}
