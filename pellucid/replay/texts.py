"""Whether a run's tokens are the tokenizer's of its texts.

The data root binds both, and nothing binds the one to the other: a trainer could publish harmless
texts beside the tokens of others. Encoding a whole corpus takes long, so an audit does it for the
documents that its steps touch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from pellucid.data.covered import covered
from pellucid.data.parquet import Documents
from pellucid.data.streams import Stream
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import DataError
from pellucid.inputs import Inputs
from pellucid.store import layout


class Texts:
    """The documents of a run, each encoded once, however often it is asked for."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        # Documents that have been encoded, and what is wrong with each.
        self._known: dict[int, str] = {}
        self._documents = Documents.open(inputs.folder)
        self._tokenizer = Tokenizer.load(inputs.folder / layout.TOKENIZER)

    def of_step(self, step: int) -> Iterator[str]:
        """What is wrong with the documents that a step trains on."""
        return self._problems_of(np.unique(self._inputs.batch(step).documents_BS).tolist())

    def of_validation(self) -> Iterator[str]:
        """What is wrong with the documents that validation covers."""
        for stream in covered(self._inputs.shards, self._inputs.recipe):
            yield from self._problems_of(stream.documents.tolist())

    def _problems_of(self, documents: Iterable[int]) -> Iterator[str]:
        for document in documents:
            if document not in self._known:
                self._known[document] = self._compared(document)
            if self._known[document]:
                yield self._known[document]

    def _compared(self, document: int) -> str:
        try:
            about = self._documents.get(document)
            stream = self._stream(about["source"], about["split"])
            first = stream.token_of(document)
            stored = stream.read(first, first + stream.length_of(document))
        except (DataError, StopIteration) as error:
            return f"document {document} has no text beside its tokens: {error}"
        encoded = np.array(
            [self._tokenizer.document_token, *self._tokenizer.encode(about["text"])], np.uint32
        )
        equal = np.array_equal(stored, encoded)
        return (
            ""
            if equal
            else f"the tokens of document {about['id']!r} are not the tokenizer's of its text"
        )

    def _stream(self, source: str, split: str) -> Stream:
        streams = self._inputs.shards.train if split == "train" else self._inputs.shards.validation
        return next(stream for stream in streams if stream.source == source)
