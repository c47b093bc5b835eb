"""The stage "tokenizer", and the tokenizer that every other room uses.

A tokenizer is made once and is data from then on. Those made here (data/kinds.py) are
lossless: decode(encode(text)) is the text. Somebody else's file is taken as it is, if it holds
nothing but what data/components.py lists. Its digest is over the parsed content of
tokenizer.json: key order, white space, keys whose value is null, and the two spellings of a
merge ("a b" and ["a", "b"]) do not count."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers

from pellucid import recipe as recipes
from pellucid.data import beside, components, kinds, stage
from pellucid.data.kinds import DOCUMENT
from pellucid.data.parquet import Documents
from pellucid.errors import (
    DocumentTokenUnclear,
    FormatInvalid,
    PellucidError,
    RecipeInvalid,
    TextInvalid,
    TokenizerInvalid,
    VocabularyTooLarge,
)
from pellucid.recipe import Recipe
from pellucid.record import digests
from pellucid.store import file_kinds, files

FILE = "tokenizer.json"
_LIMIT = 64 << 20  # Bytes of a tokenizer.json; the largest in use has about 35.
_SHOWN = 20  # Candidates that an error lists.
LOSSY = (
    "The tokenizer cannot restore every text, so bits per byte also count bytes that its tokens "
    "do not encode."
)
LIMITS = {"uint16": 1 << 16, "uint32": 1 << 32}


def prepare(recipe: Recipe, folder: Path, progress: stage.Progress = stage.silent) -> bool:
    """Write data/tokenizer as one whole folder; returns at once where it is done.

    Raises TokenizerInvalid, DocumentTokenUnclear, VocabularyTooLarge.
    """
    place = beside.find(folder, recipe, stage.TOKENIZER)
    if place.done:
        return False
    place.begin()
    content = _content(recipe, folder, Documents.open(place.root), progress)
    made = Tokenizer(content, place.path / FILE, named(recipe))
    _check_fits(made, recipe)
    with files.whole_folder(place.path) as partial:
        (partial / FILE).write_bytes(content)
        manifest = {
            "format": stage.FORMAT,
            "kind": "tokenizer",
            "recipe": place.made_from,
            **described(made, recipe)._asdict(),
            "made_with": {"tokenizers": tokenizers.__version__},
        }
        files.write_json(partial / stage.MANIFEST, manifest)
    beside.settle(place)
    return True


class Recorded(NamedTuple):
    """What a tokenizer's manifest says of its file."""

    digest: str
    vocabulary: int
    document_token: int
    # Whether it gives every text of the run back; else bits per byte are of another text.
    lossless: bool


def described(made: Tokenizer, recipe: Recipe) -> Recorded:
    # Of kind characters every character of the documents is a token.
    lossless = recipe.tokenizer.kind == "characters" or made.lossless
    return Recorded(made.digest.hex(), made.vocabulary, made.document_token, lossless)


def recorded(folder: Path) -> Recorded:
    """What a run's tokenizer is, as its manifest says. Raises
    FormatInvalid, FormatTooNew, FileMissing."""
    return _recorded(folder / stage.TOKENIZER / stage.MANIFEST)


def is_lossless(folder: Path, recipe: Recipe) -> bool:
    """Whether the run's tokenizer gives its texts back; else LOSSY
    belongs beside its bits per byte."""
    prepared = (
        recipe.tokenizer.kind == "file" and (folder / stage.TOKENIZER / stage.MANIFEST).is_file()
    )
    return recorded(folder).lossless if prepared else True


def _recorded(path: Path) -> Recorded:
    about = stage.read_manifest(path, "tokenizer")
    vocabulary = stage.count_in(about, "vocabulary", path, most=LIMITS["uint32"])
    document = stage.count_in(about, "document_token", path)
    if document >= vocabulary:
        raise FormatInvalid(
            path=path, detail=f"document_token is {document}, but the vocabulary is {vocabulary}"
        )
    lossless = about.get("lossless")
    if not isinstance(lossless, bool):
        raise FormatInvalid(path=path, detail="lossless is not true or false")
    return Recorded(stage.digest_in(about, "digest", path), vocabulary, document, lossless)


def named(recipe: Recipe) -> str:
    """How the recipe spells the token that begins a document; empty where the file decides."""
    return recipe.tokenizer.document_token if recipe.tokenizer.kind == "file" else DOCUMENT


def check(recipe: Recipe, folder: Path) -> None:
    """For kind = "file": whether the file is usable, before any work. Raises as prepare does."""
    if recipe.tokenizer.kind == "file":
        if not recipe.tokenizer.path:
            detail = 'is missing, and tokenizer.kind = "file" takes it'
            setting = ", or with --set tokenizer.path=FILE"
            raise RecipeInvalid(
                path=folder / recipes.FILE, key="tokenizer.path", detail=detail, setting=setting
            )
        path = folder / recipe.tokenizer.path
        _check_fits(Tokenizer(existing(path, follow=True), path, named(recipe)), recipe)


def wrong_in(made: Tokenizer, recipe: Recipe, characters: set[str]) -> str:
    """Where the kind is one made here: whether the file is the one that it gives, and for
    "characters" these of the documents; empty where nothing is wrong."""
    if recipe.tokenizer.kind == "file":
        return ""
    return kinds.wrong_in(made.content, made.parsed, recipe.tokenizer, characters)


def _content(recipe: Recipe, folder: Path, documents: Documents, progress: stage.Progress) -> bytes:
    fields = recipe.tokenizer
    if fields.kind == "file":
        return existing(folder / fields.path, follow=True)
    total = int(documents.manifest["characters"])
    total = min(total, fields.sample_characters) if fields.kind == "bpe" else total
    return kinds.made(
        fields, documents, stage.Meter(progress, "tokenizer", "characters", total=total)
    )


def existing(path: Path, follow: bool = False) -> bytes:
    """The bytes of a tokenizer.json; follow: of the user's own, which may be reached by a
    link. Raises TokenizerInvalid."""
    if detail := file_kinds.unfit(path):
        raise TokenizerInvalid(path=path, detail=detail)
    return files.read_bytes(path, _LIMIT, follow)


def _check_fits(made: Tokenizer, recipe: Recipe) -> None:
    kind = recipe.data.token_type
    if made.vocabulary > LIMITS[kind]:
        raise VocabularyTooLarge(vocabulary=made.vocabulary, token_type=kind, limit=LIMITS[kind])


# ---- what begins a document --------------------------------------------------------------------


def _document_token(parsed: dict[str, Any], spelling: str, path: Path) -> str:
    """The token that begins a document: the recipe's, or what the file itself says by what it does.

    That is the token that its post-processor puts before a text, else the one that it puts behind
    one, else its only special token. Raises TokenizerInvalid, DocumentTokenUnclear."""
    if spelling:
        if spelling not in components.ids_of(parsed):
            raise TokenizerInvalid(
                path=path,
                detail=f"it has no token {spelling!r}, which tokenizer.document_token names",
            )
        return spelling
    added = parsed.get("added_tokens", [])
    other = (_unknown(parsed["model"]), (parsed.get("padding") or {}).get("pad_token"))
    special = [
        one["content"] for one in added if one.get("special") and one["content"] not in other
    ]
    for found in (*_around(parsed), special):
        if len(found) == 1 and found[0] in special:
            return found[0]
        if found:
            break
    candidates = special or [one["content"] for one in added]
    if not candidates:
        raise TokenizerInvalid(
            path=path,
            detail="it has no special token, and a document must begin with a special token",
        )
    shown = ", ".join(candidates[:_SHOWN]) + (", …" if len(candidates) > _SHOWN else "")
    raise DocumentTokenUnclear(path=path, candidates=shown, first=candidates[0])


def _unknown(model: dict[str, Any]) -> str | None:
    """The token that stands for what the vocabulary does not have."""
    number = model.get("unk_id")
    return model.get("unk_token") if number is None else model["vocab"][number][0]


def _around(parsed: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The tokens that the post-processor puts before a text, and behind it."""
    before: list[str] = []
    behind: list[str] = []
    for part in components.parts_of(parsed, "post_processor"):
        if part["type"] == "TemplateProcessing":
            place = before
            for piece in part.get("single") or []:
                if "Sequence" in piece:
                    place = behind
                else:
                    place.append(piece["SpecialToken"]["id"])
        elif part["type"] in ("BertProcessing", "RobertaProcessing"):
            before.append(part["cls"][0])
            behind.append(part["sep"][0])
    return list(dict.fromkeys(before)), list(dict.fromkeys(behind))


def _as_used(parsed: dict[str, Any], document: str, number: int) -> dict[str, Any]:
    """The content as this run uses it: nothing is cut, filled up or added, and the document token
    is marked special, so that no text becomes it (see Tokenizer)."""
    added = parsed.get("added_tokens", [])
    marked = [
        token | {"special": True} if token["content"] == document else token for token in added
    ]
    if all(token["content"] != document for token in added):
        unset = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        marked.append({"id": number, "content": document, **unset, "special": True})
    return parsed | {
        "truncation": None,
        "padding": None,
        "post_processor": None,
        "added_tokens": marked,
    }


# ---- identity and use --------------------------------------------------------------------------


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
    """What the library raises, as TokenizerInvalid: plain Exception, or of a panic of
    its Rust no Exception at all."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError, PellucidError):
        raise
    except BaseException as error:
        raise TokenizerInvalid(path=path, detail=f"{what}: {str(error)[:200]}") from error


class Tokenizer:
    """Text to token ids and back. Adds no special token, and text never becomes one."""

    def __init__(self, content: bytes, path: Path, document: str | int = "") -> None:
        """From the bytes of a tokenizer.json; path names it in errors. document is the token that
        begins a document, by its spelling or its id; where it is empty the file decides. Raises
        TokenizerInvalid, DocumentTokenUnclear."""
        with _named(path, "it cannot be read"):
            parsed = components.parse(content)
            ids = components.ids_of(parsed)
            spelling = _document_token(parsed, _spelling(ids, document), path)
            self._used = _as_used(parsed, spelling, ids[spelling])
            made = tokenizers.Tokenizer.from_str(json.dumps(self._used))
            if made.get_vocab(with_added_tokens=True) != ids:
                raise components.NotAllowed("the tokenizers library gives its tokens other ids")
        # Without this, a text that contains "<|document|>" would become the document token.
        made.encode_special_tokens = True
        self.content, self.parsed = content, parsed
        self._made, self._path = made, path
        self.tokens = ids  # Every token as the file spells it, and its id.
        self.vocabulary = max(ids.values()) + 1
        self.document, self.document_token = spelling, ids[spelling]

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """A run's, or that of its stage's folder. Raises TokenizerInvalid,
        FormatInvalid, FileMissing."""
        place = folder / stage.TOKENIZER if (folder / stage.TOKENIZER).is_dir() else folder
        return cls(
            existing(place / FILE), place / FILE, _recorded(place / stage.MANIFEST).document_token
        )

    @property
    def digest(self) -> bytes:
        return digest_of(self.parsed)

    @cached_property
    def exported(self) -> bytes:
        """The tokenizer.json of a checkpoint: the file without what would give its
        readers other ids than the run's."""
        return self.content if self._used == self.parsed else kinds.spelled(self._used)

    @property
    def added(self) -> set[str]:
        """The tokens that stand for their own spelling, whatever the others do."""
        return {token["content"] for token in self._used["added_tokens"]}

    @property
    def byte_level(self) -> bool:
        """Whether the letters of a token stand for bytes (kinds.byte_letters)."""
        return "ByteLevel" in [part["type"] for part in components.parts_of(self.parsed, "decoder")]

    @cached_property
    def lossless(self) -> bool:
        """Whether its parts show that it gives every text back. False also of some that
        give back nearly every one."""
        return _lossless(self._used)

    def encode(self, text: str) -> list[int]:
        """The ids of a text. Raises TextInvalid, TokenizerInvalid."""
        return self.encode_with_offsets(text)[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One uint32 array per text, computed on all cores. Raises TokenizerInvalid."""
        with _named(self._path, "it cannot encode"):
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
        try:
            text.encode("utf-8")
        # Lone surrogates stand for bytes that a command line could not decode.
        except UnicodeEncodeError as error:
            raise TextInvalid(detail=error) from error
        with _named(self._path, "it cannot encode"):
            encoding = self._made.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets


def _spelling(ids: dict[str, int], document: str | int) -> str:
    if isinstance(document, str):
        return document
    spelled = [token for token, number in ids.items() if number == document]
    if not spelled:
        raise components.NotAllowed(
            f"no token of it has the id {document}, and documents are said to begin with it"
        )
    return spelled[0]


def _lossless(parsed: dict[str, Any]) -> bool:
    """Byte pairs over all bytes, nothing changed or left out on the way there, and
    the bytes put together again."""
    model, before = parsed["model"], components.parts_of(parsed, "pre_tokenizer")
    letters = {letter: byte for byte, letter in kinds.byte_letters().items()}
    kept = {"ByteLevel", "Digits", "Split", "Punctuation"}
    return (
        "merges" in model
        and letters.keys() <= model["vocab"].keys()
        and not any(model.get(name) for name in ("continuing_subword_prefix", "end_of_word_suffix"))
        and not components.parts_of(parsed, "normalizer")
        and [part["type"] for part in before].count("ByteLevel") == 1
        and all(part["type"] in kept and part.get("behavior") != "Removed" for part in before)
        and not any(part.get("add_prefix_space") for part in before)
        and [part["type"] for part in components.parts_of(parsed, "decoder")] == ["ByteLevel"]
        and all(
            token["special"] or _stands_for_itself(token, letters)
            for token in parsed["added_tokens"]
        )
    )


def _stands_for_itself(added: dict[str, Any], letters: dict[str, int]) -> bool:
    """Whether a text's piece that became this plain token is decoded to the same piece."""
    content = added["content"]
    spelled = (
        bytes(letters[letter] for letter in content)
        if set(content) <= letters.keys()
        else content.encode()
    )
    return spelled == content.encode() and not any(
        added.get(mark) for mark in ("lstrip", "rstrip", "normalized")
    )
