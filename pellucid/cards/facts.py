"""What the cards of a release say, read once; and on what each value rests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.cards import licences, publisher
from pellucid.data.licences import Licence
from pellucid.data.licences import licences as licences_of
from pellucid.data.parquet import Documents, rows_of
from pellucid.errors import EvaluationBroken, FileMissing, TaskDiffers
from pellucid.evaluate import builtin
from pellucid.huggingface import WEIGHTS
from pellucid.look.status import status
from pellucid.recipe import Recipe, Source
from pellucid.recipe import load as load_recipe
from pellucid.record import metrics
from pellucid.store import files, layout, log, tensors

RECORD, MEASURED, PUBLISHER = "record", "measured", "publisher"
BASES = {
    RECORD: "follows from the record and the data: `pellucid verify` and `pellucid audit` check it",
    MEASURED: "was measured or noted on the machine of whoever trained: nothing checks it",
    PUBLISHER: "is said by the publisher in publisher.toml: nothing checks it",
}
_LICENCES = 100  # That are named: the commonest.
_DATED = 10  # Characters of an ISO date.


class Value(NamedTuple):
    """A value, and on what it rests. None: nobody knows it."""

    value: Any
    basis: str

    def as_json(self) -> dict[str, Any]:
        return self._asdict()


@dataclass(frozen=True)
class Facts:
    """A trained run with its data. Reading raises what its readers raise, and PublisherInvalid."""

    folder: Path

    @cached_property
    def recipe(self) -> Recipe:
        return load_recipe(self.folder)

    @cached_property
    def status(self) -> dict[str, Any]:
        return status(self.folder)

    @cached_property
    def said(self) -> publisher.Said:
        names = tuple(source.name for source in self.recipe.data.sources)
        return publisher.load(self.folder, names)

    @cached_property
    def documents(self) -> Documents:
        return Documents.open(self.folder)

    @cached_property
    def parameters(self) -> int:
        weights = tensors.Tensors(self.folder / WEIGHTS)
        return sum(weights.array(name).size for name in weights.entries)

    @cached_property
    def licences(self) -> tuple[list[Licence], Licence | None]:
        """Of the texts: the commonest, and the sum of the others."""
        return self._licences.commonest(_LICENCES)

    @property
    def unknown(self) -> int:
        """Documents of an unknown licence."""
        return sum(self._licences.unknown.values())

    @cached_property
    def _licences(self) -> Any:
        return licences_of(self.folder)

    @cached_property
    def licence(self) -> Value:
        """Of the weights, the record and the cards."""
        if self.said.release.licence:
            return Value(self.said.release.licence, PUBLISHER)
        return Value("Apache-2.0", RECORD) if self._is_ours else Value(None, PUBLISHER)

    @cached_property
    def _is_ours(self) -> bool:
        """Whether LICENSE is the text that publish writes where there is none."""
        ours = resources.files("pellucid").joinpath("LICENSE").read_bytes()
        return files.holds(self.folder / "LICENSE", ours)

    @cached_property
    def conflicts(self) -> list[str]:
        """What does not fit between licences, in words with strings of others."""
        named, others = self.licences
        counted = [licences.Counted(one.name, one.documents) for one in named]
        known = [one for one in counted if one.name != "unknown"]
        found = licences.conflicts(self.licence.value, known, self.unknown)
        if others:
            found.append(f"{others.documents:,} documents have licences that are not named here")
        said = self.said.release.licence
        if said and said != "Apache-2.0" and self._is_ours:
            found.append(f"publisher.toml says {said}, but LICENSE is the Apache-2.0 licence")
        return found

    @cached_property
    def texts_are_open(self) -> bool:
        named, others = self.licences
        return not others and not self.unknown and all(licences.is_open(one.name) for one in named)

    @cached_property
    def noted(self) -> tuple[str, str]:
        """The first and the last time in the journal, as ISO dates."""
        times = [
            str(entry.body.get("time", "")) for entry in log.read(self.folder / layout.JOURNAL)
        ]
        return times[0][:_DATED], times[-1][:_DATED]

    @cached_property
    def latest(self) -> Value:
        """The latest date that a document has, or that the publisher says of a source."""
        dates = set[str]()
        for rows in self.documents.rows(["date"]):
            dates.update(filter(_is_date, rows.column("date").unique().to_pylist()))
        if dates:
            return Value(max(dates, key=lambda date: date[:_DATED])[:_DATED], RECORD)
        told = [one.collected_until for one in self.said.sources.values() if one.collected_until]
        return Value(max(told, default=None), PUBLISHER)

    def origins(self, source: Source) -> list[str]:
        """The packages that a source's texts are from; none where its documents name no package."""
        found = set[str]()
        for part in self.documents.parts:
            if part.source == source.name:
                for rows in rows_of(part, ["origin"]):
                    found.update(one.split("#")[0] for one in rows.column("origin").to_pylist())
                    if len(found) > _LICENCES:
                        return []
        return sorted(one for one in found if one.startswith("pkg:"))

    @cached_property
    def evaluations(self) -> list[dict[str, Any]]:
        """The rows of README's table of evaluations: none where they cannot be read."""
        try:
            return [
                {
                    "step": entry["step"],
                    "task": entry["task"],
                    "metric": entry["metric"],
                    "basis": RECORD if entry["metric"] in metrics.METRICS else MEASURED,
                }
                for entry in builtin.of_run(self.folder)
            ]
        except (EvaluationBroken, TaskDiffers, FileMissing):  # Their check names what is wrong.
            return []

    def stored(self) -> Iterator[int]:
        """Steps before the last whose weights are stored."""
        kept = {*self.status["anchors"], *self.status["checkpoints"]}
        return (step for step in sorted(kept) if step < self.status["steps_done"])

    @cached_property
    def parts(self) -> list[dict[str, Any]]:
        """The files of the documents, each with its `path`, `source`, `size` and `sha256`."""
        return [
            {
                "path": part.path.relative_to(self.folder).as_posix(),
                "source": part.source,
                "size": part.path.stat().st_size,
                "sha256": files.sha256_file(part.path),
            }
            for part in self.documents.parts
        ]

    def title(self) -> str:
        return self.said.release.title or self.recipe.name

    def version(self) -> Value:
        """What the publisher says; else the beginning of the head, which no other run has."""
        if self.said.release.version:
            return Value(self.said.release.version, PUBLISHER)
        return Value(self.status["head"][:12], RECORD)

    def date(self) -> Value:
        if self.said.release.date:
            return Value(self.said.release.date, PUBLISHER)
        return Value(self.noted[1], MEASURED)


def _is_date(text: str) -> bool:
    day = text[:_DATED]
    return len(day) == _DATED and day[4] == day[7] == "-" and day.replace("-", "").isdigit()
