"""The recipe's sections of the texts: sources, how they become documents, and the tokenizer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pellucid.sections import INTEGER, NOT_BLANK, Count, Name, Natural, Section, placement

# Formats whose records have fields with names.
WITH_FIELDS = ("jsonl", "json", "csv", "parquet")


class Source(Section):
    """One source of documents."""

    name: Name
    path: str = placement("")
    format: Literal["text", "jsonl", "json", "csv", "parquet", "lines", "fasta", "package"] = "text"
    licence: Annotated[str, Field(pattern=NOT_BLANK)] = "unknown"
    # How often it is seen while all of weight 1 are seen once; 0: for validation only.
    weight: Natural = 1
    text_key: str = "text"  # Of records with fields: the one that holds the text …
    id_key: str = ""  # … and those that say what it is called, …
    licence_key: str = ""  # … its own licence, where it has one, …
    origin_key: str = ""  # … where it is from, …
    date_key: str = ""  # … and of when; docs/data.md.
    include: tuple[str, ...] = ()  # Patterns on '/'-paths; empty takes the format's own endings.
    exclude: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Source:
        for name in ("id_key", "licence_key", "origin_key", "date_key"):
            if getattr(self, name) and self.format not in WITH_FIELDS:
                detail = (
                    f'{name} belongs to records with fields, and format = "{self.format}" has none'
                )
                raise ValueError(f"source {self.name}: {detail}")
        return self


class Data(Section):
    """How the sources become documents, splits and shards."""

    sources: tuple[Source, ...] = Field(min_length=1)
    # How sources become documents: docs/format.md, section 5.
    pipeline: Annotated[Literal[2], INTEGER] = 2
    validation_per_10000: Annotated[int, Field(ge=1, le=5000)] = 100
    max_document_characters: Count = 1_000_000  # Longer documents are cut into parts.
    # Whether all of a text has one split, or each part its own.
    split: Literal["texts", "parts"] = "texts"
    invalid_utf8: Literal["replace", "drop"] = "replace"
    token_type: Literal["uint16", "uint32"] = "uint16"
    # What hides a text in its leaf: public, or drawn and kept: docs/format.md, section 5.
    salts: Literal["seed", "random"] = "seed"
    block: Annotated[int, Field(ge=0, le=2**20)] = 0  # Targets of a block; 0: model.context.
    root: str = placement("")  # Pins the data root: other data is refused before training.

    @model_validator(mode="after")
    def _consistent(self) -> Data:
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError("two sources have the same name")
        return self


class Tokenizer(Section):
    kind: Literal["bpe", "bytes", "characters", "file"] = "bpe"
    # For bpe; the others follow the data.
    vocabulary: Annotated[int, Field(ge=257, le=2**31)] = 4096
    # For bpe: cuts texts before merging.
    pattern: Literal["llama3", "qwen2", "gpt2", "o200k", "pellucid"] = "llama3"
    # Characters of a token that bpe may learn.
    max_pretoken: Annotated[int, Field(ge=1, le=256)] = 24
    # For bpe: trained on about so much, chosen by document hash.
    sample_characters: Count = 100_000_000
    path: str = placement("")  # For kind = "file": a tokenizer.json …
    # … and which of its tokens begins a document; empty: the one that it shows.
    document_token: str = ""
