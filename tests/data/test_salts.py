"""Salts that are drawn: kept beside the documents, and what becomes possible with them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pellucid import prove
from pellucid.data import documents, leaves, parquet, roots, shards, stage, tokenizer
from pellucid.data.parquet import Documents
from pellucid.data.salts import SIZE, Kept, Public, file_of, of_run
from pellucid.data.streams import Shards
from pellucid.errors import FormatInvalid
from pellucid.fork import fork
from pellucid.inputs import Inputs
from pellucid.recipe import Recipe, load
from pellucid.record import digests, merkle, proofs, rows
from pellucid.recorder import row_leaves
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay.audit import audit_step
from pellucid.store import layout
from pellucid.store.ledger import LedgerFile
from tests.conftest import finish, make_run, write_corpus
from tests.data.conftest import Interrupted, interrupted

DRAWN = {"salts": "random"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed run whose salts were drawn."""
    place = tmp_path_factory.mktemp("salts")
    folder = make_run(place / "run", write_corpus(place / "texts"), ["data.salts=random"])
    publish(finish(folder))
    return folder


def prepared(recipe: Recipe, folder: Path) -> Path:
    """The data of a recipe, whole."""
    for one in (documents, tokenizer, shards):
        one.prepare(recipe, folder)
    return folder


def test_two_runs_draw_other_salts_and_are_otherwise_the_same(tmp_path, corpus, recipe_of):
    recipe = recipe_of({"name": "all", "path": str(corpus)}, data=DRAWN)
    one, other = (prepared(recipe, tmp_path / name) for name in "ab")
    manifests = [json.loads((folder / stage.DATA).read_text()) for folder in (one, other)]
    assert manifests[0]["root"] != manifests[1]["root"]
    for path in sorted((one / "data").rglob("*.*")):
        if path.suffix != ".json" and not path.name.endswith(".salts.bin"):
            assert path.read_bytes() == (other / path.relative_to(one)).read_bytes(), path
    salts = of_run(one, recipe)
    drawn = [salts.of(index) for index in range(Documents.open(one).count)]
    assert len(set(drawn)) == len(drawn) and {len(salt) for salt in drawn} == {SIZE}
    assert roots.recompute_root(one, recipe) == (manifests[0]["root"], [])


def test_salts_of_finished_parts_stay_over_a_kill(tmp_path, corpus, recipe_of, small_parts):
    recipe = recipe_of({"name": "all", "path": str(corpus)}, data=DRAWN)
    with pytest.raises(Interrupted):
        documents.prepare(recipe, tmp_path, interrupted(3))
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.salts.bin")}
    assert kept
    stray = tmp_path / stage.DOCUMENTS / "00099.salts.bin"
    stray.write_bytes(bytes(SIZE))
    prepared(recipe, tmp_path)
    assert not stray.exists()
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert len(list(tmp_path.rglob("*.salts.bin"))) == len(Documents.open(tmp_path).parts) > 1
    assert not roots.recompute_root(tmp_path, recipe)[1]


def test_a_run_with_drawn_salts_is_verified_audited_proven_and_forked(
    run: Path, tmp_path: Path
) -> None:
    assert verify(run, lambda words: None).ok
    inputs, head = Inputs.load(run, load(run)), LedgerFile(run).head
    assert audit_step(inputs, 7, lambda done, total: None).ok
    name = Documents.open(run).get(3)["id"]
    proven = proofs.check(prove.document(run, name), head)
    assert proven.thing["salt"] == of_run(run, load(run)).of(3).hex()
    assert proofs.check(prove.block(run, 2), head).kind == "block"
    fork(inputs, 4, tmp_path / "fork", ["train.lr=1e-4"], [], lambda done, total: None)
    publish(finish(tmp_path / "fork"))
    assert verify(tmp_path / "fork", lambda words: None).ok


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes of salts beside it for"),
        (lambda path: path.unlink(), "has no salts beside it"),
        (lambda path: path.write_bytes(bytes([1]) + path.read_bytes()[1:]), ""),
    ],
)
def test_salts_that_are_not_the_documents_are_found(tmp_path, corpus, recipe_of, change, error):
    recipe = recipe_of({"name": "all", "path": str(corpus)}, data=DRAWN)
    prepared(recipe, tmp_path)
    before = json.loads((tmp_path / stage.DATA).read_text())["root"]
    change(file_of(Documents.open(tmp_path).parts[0].path))
    root, problems = roots.recompute_root(tmp_path, recipe)
    assert root != before
    assert error in " ".join(detail for _, detail in problems)


def test_salts_beside_documents_of_public_ones_are_refused(tmp_path, corpus, recipe_of):
    recipe = recipe_of({"name": "all", "path": str(corpus)})
    prepared(recipe, tmp_path)
    file_of(Documents.open(tmp_path).parts[0].path).write_bytes(bytes(SIZE))
    root, problems = roots.recompute_root(tmp_path, recipe)
    assert root == "" and "the recipe takes them from the seed" in problems[0][1]


def test_a_document_without_a_salt_is_named(tmp_path: Path) -> None:
    part = parquet.Part(tmp_path / "00000.parquet", "a", 0, 2)
    file_of(part.path).write_bytes(bytes(2 * SIZE))
    salts = Kept([part])
    assert salts.of(1) == bytes(SIZE)
    with pytest.raises(FormatInvalid, match="has no salt of document 2"):
        salts.of(2)
    with pytest.raises(FormatInvalid, match="has no parts"):
        Kept([]).of(0)


# ---- withdrawal --------------------------------------------------------------------------------


class Withdrawn:
    """Leaves of a release of which one document was taken out: in place of its salt and its ids
    stand the leaves that its maker left."""

    def __init__(self, run: Path, index: int) -> None:
        self.index = index
        self._salts = of_run(run, load(run))
        self.left: dict[tuple[int, int], bytes] = {}  # (first, count) -> the leaf of that part.

    def of(self, document: int) -> bytes:
        assert document != self.index, "its salt is gone"
        return self._salts.of(document)

    def leave(self, ids: np.ndarray, documents_S: np.ndarray, first: int) -> None:
        """What the maker writes down of the document's parts before it is taken out."""
        for begin, end, offset in _parts(documents_S, first):
            if int(documents_S[begin]) == self.index:
                part = rows.Part(self.index, offset, ids[begin:end])
                self.left[offset, end - begin] = rows.part_leaf(self._salts.of(self.index), part)

    def leaves(self, ids: np.ndarray, documents_S: np.ndarray, first: int) -> list[bytes]:
        """As data/leaves.py has them, without the document's ids."""
        found = []
        for begin, end, offset in _parts(documents_S, first):
            document = int(documents_S[begin])
            if document == self.index:
                found.append(self.left[offset, end - begin])
            else:
                part = rows.Part(document, offset, ids[begin:end])
                found.append(rows.part_leaf(self.of(document), part))
        return found


def _parts(documents_S: np.ndarray, first: int) -> list[tuple[int, int, int]]:
    cuts = [0, *(np.flatnonzero(np.diff(documents_S)) + 1).tolist(), len(documents_S)]
    return [(begin, end, 0 if begin else first) for begin, end in pairwise(cuts)]


def test_one_document_can_be_withdrawn_and_all_else_verifies(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text, ids and salt are nowhere used: the roots are those of the ledger all the same."""
    recipe, inputs = load(run), Inputs.load(run, load(run))
    opened, shown = Shards.open(run), Documents.open(run)
    batches = [inputs.batch(step) for step in (3, 6, 9)]
    index = int(batches[0].documents_BS[1, 5])
    withdrawn = Withdrawn(run, index)
    real = leaves.part_leaves

    def leaving(salts: object, ids: np.ndarray, documents_S: np.ndarray, first: int) -> list[bytes]:
        withdrawn.leave(ids, documents_S, first)
        return real(of_run(run, recipe), ids, documents_S, first)

    def roots_of(salts: Withdrawn) -> tuple[list[bytes], list[bytes]]:
        streams = [
            roots.stream_root(stream, opened.block, salts, place)
            for place, stream in enumerate([*opened.train, *opened.validation])
        ]
        return streams, [merkle.root(row_leaves(batch, recipe, salts)) for batch in batches]

    monkeypatch.setattr(leaves, "part_leaves", leaving)
    roots_of(withdrawn)
    taken_out = np.uint32(0)

    def without(salts: object, ids: np.ndarray, documents_S: np.ndarray, first: int) -> list[bytes]:
        return withdrawn.leaves(np.where(documents_S == index, taken_out, ids), documents_S, first)

    monkeypatch.setattr(leaves, "part_leaves", without)
    streams, found = roots_of(withdrawn)
    stated = json.loads((run / layout.DATA_MANIFEST).read_text())["streams"]
    assert [root.hex() for root in streams] == [one["root"] for one in stated]
    entries = [LedgerFile(run).step(step)["batch"] for step in (3, 6, 9)]
    assert [root.hex() for root in found] == entries
    # And the documents' root, from every other text and the leaf that stays.
    part, salts = shown.part_of(index), withdrawn
    names = ("id", "licence", "origin", "date", "text")
    own = []
    for number in range(part.first_index, part.first_index + part.documents):
        row = shown.get(number)
        if number == index:
            thing = proofs.check(prove.document(run, row["id"]), LedgerFile(run).head).thing
            labels = [thing[name] for name in names[:-1]]
            left = [bytes.fromhex(thing[name]) for name in ("salt", "sha256")]
            own.append(digests.document_leaf_of(left[0], *labels, left[1]))
        else:
            own.append(digests.document_leaf(salts.of(number), *(row[name] for name in names)))
    stated = shown.manifest["parts"][shown.parts.index(part)]["root"]
    assert merkle.root(own).hex() == stated


def test_a_guessed_text_is_known_by_a_public_salt_and_by_no_drawn_one(run: Path) -> None:
    """What withdrawal is for: whoever guesses the text can check it, unless its salt is gone."""
    row, recipe = Documents.open(run).get(2), load(run)
    labels = [row[name] for name in ("id", "licence", "origin", "date", "text")]
    leaf = digests.document_leaf(of_run(run, recipe).of(2), *labels)
    assert leaf != digests.document_leaf(Public(recipe.seed).of(2), *labels)
