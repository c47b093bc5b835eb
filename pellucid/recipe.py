"""The recipe: one TOML file with everything that can change the bits of a run."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from pellucid import learning_rates, objectives, operations, optimizers, phases, wording
from pellucid.corpus import Data, Source, Tokenizer
from pellucid.errors import (
    RecipeInvalid,
    RecipeTooNew,
    RecipeTooOld,
    RecipeUnknownKey,
    RecipeUnreadable,
    RunMissing,
)
from pellucid.families import Family, Llama
from pellucid.objectives import CrossEntropy
from pellucid.optimizers import AdamW
from pellucid.phases import Phase
from pellucid.record import digests
from pellucid.record.guards import Rule, Rules
from pellucid.schedule import Phase as Planned
from pellucid.schedule import Schedule
from pellucid.sections import (
    DIGEST,
    INTEGER,
    Count,
    Fraction,
    Name,
    Natural,
    Positive,
    Section,
    bits,
    placement,
    tuples,
    unfit,
)
from pellucid.store import files, layout

VERSION = 4  # The only one: docs/adr/0024.
FILE = layout.RECIPE
COMMAND_LINE = "the command line"  # Errors of --set name it: their value stands in no file.
MAX_BYTES = 256 << 10
# Characters of a text: on a run of white space, or of capitals, a published pattern takes up to two
# steps a character, and the tokenizers library gives up at ten million.
LONGEST_MATCHED = 4_000_000
_MOST_POINTS = 500  # On one line: tomllib takes time in the square of a key's parts.


# Counters have 63 bits; the last is left to what phases round up where they begin.
_MOST_TARGETS = 1 << 62
Far = Annotated[int, Field(ge=0, lt=_MOST_TARGETS)]


class Train(Section):
    arithmetic: Literal["portable", "native"] = "portable"  # Our kernels, or PyTorch's own.
    precision: Literal["fp32", "bf16"] = "fp32"
    steps: Count = 200
    batch: Count = 16  # Rows per step.
    microbatch: Count = 16  # Rows per forward and backward pass.
    lr: Positive = 3e-3
    schedule: learning_rates.Name = "cosine"
    warmup: Natural = 20  # Steps.
    # Steps of the final decay of "wsd"; the other schedules decay from the warmup on.
    decay: Natural = 0
    final_lr: Fraction = 0.1  # As a fraction of lr.
    clip: Positive = 1.0  # The largest norm of the gradients.
    # Weights that stay: patterns of names, *, ?, [abc].
    frozen: Annotated[tuple[str, ...], Field(max_length=64)] = ()


class Validation(Section):
    every: Count = 100  # Steps; step 0 and the last step always.
    tokens: Count = 65536  # Per source: whole documents until at least so many tokens.


class Checkpoints(Section):
    every: Count = 100  # Steps; step 0 and the last step always.


class Record(Section):
    # microbatches: each one's gradient is hashed.
    commitment: Literal["steps", "microbatches"] = "steps"


class Spike(Section):
    """When a step's loss or gradient norm is a spike (record/guards.py), and what is done then."""

    action: Literal["off", "note", "stop", "rollback"] = "note"
    # Above the median of the steps before, in robust standard deviations …
    deviations: Positive = 8.0
    least: Positive = 0.1  # … and at least as this fraction of the median.
    width: Count = 1  # So many steps of it, one after the other.


class Guards(Section):
    """What the run does when its own numbers look wrong; every decision is in the ledger."""

    loss: Spike = Spike()
    grad_norm: Spike = Spike(action="off")
    window: Annotated[int, Field(ge=8, le=4096)] = 64  # Steps that a step is held against.
    not_finite: Literal["stop", "rollback"] = "stop"
    # Steps that a rollback goes back; their rows are passed over.
    back: Annotated[int, Field(ge=1, le=2**20)] = 50
    rollbacks: Annotated[int, Field(ge=0, le=1000)] = 3  # So many at most; then the run stops.


class Fork(Section):
    """Where a fork begins: after a step of its parent. `pellucid fork` writes it."""

    # The parent's head; empty: no fork.
    parent: Annotated[str, Field(pattern=DIGEST)] = ""
    step: Natural = 0
    # The root of the parent's state after that step.
    state: Annotated[str, Field(pattern=DIGEST)] = ""
    without: tuple[str, ...] = ()  # Sources and documents whose blocks are replaced by others.
    tokens: Far = 0  # Targets that the parent had seen by then.
    # Of each source, the targets that the parent had seen …
    cursors: dict[str, Far] = Field(default_factory=dict)
    rows: Far = 0  # … before so many rows of the mixture that the fork goes on with.

    def claims(self) -> dict[str, Any] | None:
        """The run that a fork says to begin with: its head, the step, the tokens up to there. No
        release of the fork holds any of it. None where there is no parent."""
        claimed = {"parent": self.parent, "step": self.step, "tokens": str(self.tokens)}
        return claimed if self.parent else None

    def identity(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """What a checkpoint's pellucid.json says: what its anchor.json does, without the tensors;
        and of a fork the run that it claims to begin with."""
        own = {name: value for name, value in about.items() if name != "tensors"}
        return own | ({"fork": self.claims()} if self.parent else {})


class Anchors(Section):
    """Which full states are stored: placement, for the ledger commits to every step's."""

    every: Count = 50
    powers_of_two: bool = True


class Placement(Section):
    anchors: Anchors = Anchors()
    threads: Natural = 0  # Of each process. 0: the machine's cores, shared by its processes.
    device: Literal["cpu", "cuda"] = "cpu"
    trace: bool = True  # Whether the index of the texts is made: about four bytes a token.


class Recipe(Section):
    version: Annotated[Literal[4], INTEGER] = 4
    name: Name = placement(...)  # What people call the run: two strangers may call it otherwise.
    seed: Natural = 1
    data: Data
    tokenizer: Tokenizer = Tokenizer()
    model: Family = Llama()
    train: Train = Train()
    optimizer: optimizers.Registered = AdamW()
    objective: objectives.Registered = CrossEntropy()
    phase: tuple[Phase, ...] = ()
    validation: Validation = Validation()
    checkpoints: Checkpoints = Checkpoints()
    record: Record = Record()
    guards: Guards = Guards()
    fork: Fork = Fork()
    placement: Placement = placement(Placement())

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        """Raises ValueError, or the error of `unfit`, where fields do not fit each other."""
        if (
            self.tokenizer.kind == "bpe"
            and self.data.token_type == "uint16"
            and self.tokenizer.vocabulary > 65536
        ):
            raise ValueError(
                f"tokenizer.vocabulary = {self.tokenizer.vocabulary} does not fit shards "
                'of uint16; set data.token_type = "uint32"'
            )
        longest = self.data.max_document_characters
        if (
            self.tokenizer.kind == "bpe"
            and self.tokenizer.pattern != "pellucid"
            and longest > LONGEST_MATCHED
        ):
            detail = (
                f'is {longest}, but tokenizer.pattern = "{self.tokenizer.pattern}" '
                f"reads at most {LONGEST_MATCHED}"
            )
            raise unfit("data.max_document_characters", LONGEST_MATCHED, detail)
        if self.tokenizer.document_token and self.tokenizer.kind != "file":
            raise ValueError('tokenizer.document_token needs tokenizer.kind = "file"')
        chosen = (self.train.arithmetic, self.placement.device, self.train.precision)
        if missing := operations.missing(*chosen):
            raise ValueError(missing)
        if bool(self.fork.parent) != bool(self.fork.state):
            raise ValueError("fork needs both the parent's head and its state")
        if not self.fork.parent and self.fork != Fork():
            raise ValueError("fork.step and fork.without need fork.parent")
        if self.fork.parent and set(self.fork.cursors) != {
            source.name for source in self.data.sources
        }:
            raise ValueError(
                "fork.cursors must name each source once, as `pellucid fork` writes it"
            )
        self._check_left()
        self._check_phases()
        return self

    def _check_left(self) -> None:
        """Raises the error of a fork that has no step to take: the steps to raise are those of the
        last phase, and train.steps with them."""
        begin, steps = self.fork.step, self.train.steps
        if begin < steps:
            return
        detail = f"no step is left after step {begin}; begin the fork at an earlier step (--step K)"
        more = begin + max(1, steps // 2)
        if not self.phase:
            raise unfit("train.steps", more, f"is {steps}, so {detail}")
        last = self.phase[-1]
        value = f"{last.steps + more - steps} --set train.steps={more}"
        detail = f"is {last.steps}, the last of train.steps = {steps}, so {detail}"
        raise unfit(f"phase.{last.name}.steps", value, detail)

    def _check_phases(self) -> None:
        """Raises ValueError, or the error of `unfit`, where phases do not fit each other, the data
        or the model."""
        names, planned = [source.name for source in self.data.sources], self.phases
        phases.check(self.phase, names, self.train.steps)
        longest = max(phase.context for phase in planned)
        if longest > self.model.context:
            detail = f"is {self.model.context}, but a phase has the context {longest}"
            raise unfit("model.context", longest, detail)
        for phase in planned:
            phases.check_planned(phase, self.block, alone=not self.phase)
        if sum(phase.steps * phase.tokens for phase in planned) >= _MOST_TARGETS:
            raise ValueError("the run has 2^62 targets or more, too many for a counter")
        if self._counted() >= _MOST_TARGETS:
            begun = "fork.tokens, fork.cursors and fork.rows with the run's targets"
            what = begun if self.fork.parent else "the run's targets with those of its rollbacks"
            raise ValueError(f"{what} come to 2^62 or more, too many for a counter")

    def _counted(self) -> int:
        """The most that a count of targets comes to, but for rounding where phases begin: what a
        fork begins with, the steps to come, and what rollbacks may take again."""
        fork, guards, schedule = self.fork, self.guards, self.schedule
        rows = fork.rows * schedule.at(self.first + 1).context
        begun = max(fork.tokens, rows + max(fork.cursors.values(), default=0))
        actions = (guards.loss.action, guards.grad_norm.action, guards.not_finite)
        most = max(phase.tokens for phase in schedule.phases)
        back = min(guards.back, self.train.steps) * most if "rollback" in actions else 0
        coming = schedule.tokens(self.train.steps) - schedule.tokens(self.first)
        return begun + coming + guards.rollbacks * back

    def source(self, name: str) -> Source:
        return next(source for source in self.data.sources if source.name == name)

    def digest(self) -> bytes:
        """SHA-256 over the canonical form of every field that can change the bits."""
        return digests.of_value("recipe", bits(self))

    @property
    def first(self) -> int:
        """The step whose state the run begins with: 0, or a fork's."""
        return self.fork.step

    @property
    def block(self) -> int:
        """Targets of a block of the data."""
        return self.data.block or self.model.context

    @property
    def phases(self) -> tuple[Planned, ...]:
        """What the run goes through; without phases of its own the plain fields are the one."""
        return tuple(phases.planned(phase, self) for phase in self.phase) or (
            phases.planned(None, self),
        )

    @property
    def schedule(self) -> Schedule:
        """What each step trains with."""
        return Schedule(self.phases, self.first, self.fork.tokens)

    @property
    def trained(self) -> set[str]:
        """The sources that some phase trains on."""
        return {name for phase in self.phases for name in self._trained_in(phase)}

    def _trained_in(self, phase: Planned) -> list[str]:
        rates = phase.shares or phase.weights
        return [source.name for source, rate in zip(self.data.sources, rates, strict=True) if rate]

    def rows_of_a_pass(self, blocks: Mapping[str, int]) -> Iterator[tuple[int, Planned]]:
        """Of each phase, how many rows its sources have when each is
        seen once; blocks by source."""
        for phase in self.phases:
            yield (
                sum(blocks[name] for name in self._trained_in(phase))
                * (self.block // phase.context),
                phase,
            )

    def alone(self, phase: Planned) -> Recipe:
        """A recipe whose plain fields are a phase's, for what asks about one step of it."""
        own = ("steps", "batch", "microbatch", "lr", "schedule", "warmup", "decay", "final_lr")
        train = self.train.model_copy(update={name: getattr(phase, name) for name in own})
        shape = {"context": phase.context, "rope_theta": phase.rope_theta}
        model = self.model.model_copy(update=shape)
        plain = {"train": train, "model": model, "objective": phase.objective}
        return self.model_copy(update={**plain, "phase": (), "fork": Fork()})

    def fields(self) -> dict[str, object]:
        """Every field that can change the bits, by its dotted key; a
        source's by the source's name."""
        return dict(_dotted(bits(self), ""))

    def scheduled(self, every: int, step: int) -> bool:
        """Whether something done every so many steps is due: also at the first
        state and after the last step."""
        return step % every == 0 or step in (self.first, self.train.steps)

    def rules(self) -> Rules:
        """What decides about incidents."""
        named = (("loss", self.guards.loss), ("grad_norm", self.guards.grad_norm))
        spikes = tuple(
            Rule(name, spike.action, spike.deviations, spike.least, spike.width)
            for name, spike in named
            if spike.action != "off"
        )
        guards = self.guards
        return Rules(spikes, guards.window, guards.not_finite, guards.back, guards.rollbacks)

    def anchored(self, step: int) -> bool:
        policy = self.placement.anchors
        return (policy.powers_of_two and step & (step - 1) == 0) or self.scheduled(
            policy.every, step
        )


def _dotted(section: dict[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in section.items():
        if name in ("sources", "phase"):
            value = {entry["name"]: entry for entry in value}
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def load(folder: Path) -> Recipe:
    """The recipe of a run folder. Raises the Recipe… errors."""
    path = folder / FILE
    if not path.is_file():
        raise RunMissing(path=folder)
    return parse(files.read_bytes(path, MAX_BYTES), path)


def parse(content: bytes, path: Path | str) -> Recipe:
    """A recipe from the bytes of its TOML file; path names it in errors. Raises the Recipe…
    errors."""
    try:
        if any(line.count(b".") > _MOST_POINTS for line in content.splitlines()):
            raise ValueError(f"a line with more than {_MOST_POINTS} points")
        values = tuples(tomllib.loads(content.decode("utf-8")))
    except (
        ValueError,
        RecursionError,
    ) as error:  # ValueError also for an integer of thousands of digits.
        raise RecipeUnreadable(path=path, detail=error) from error
    version = values.get("version")
    if type(version) is int and version != VERSION:
        raise (RecipeTooNew if version > VERSION else RecipeTooOld)(
            path=path, found=version, known=VERSION
        )
    return _validated(values, path)


def _validated(values: dict[str, Any], path: Path | str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        chosen_by = first.get("ctx", {}).get("discriminator", "").strip("'")
        location = (*_location(first["loc"]), *([chosen_by] if chosen_by else []))
        key, setting = _key(location, values)
        if first["type"] == "extra_forbidden":
            raise RecipeUnknownKey(path=path, key=key, hint=_nearest(location)) from error
        if first["type"] == "unfit" and (context := first.get("ctx")):
            setting = f", or with --set {context['key']}={context['value']}"
            raise RecipeInvalid(
                path=path, key=context["key"], detail=context["detail"], setting=setting
            ) from error
        detail = wording.words(first)
        if path == COMMAND_LINE:
            setting = ""
        given = first.get("ctx", {}).get("tag", first["input"])
        if first["type"] != "missing" and not isinstance(given, dict):
            detail += f" (it is {given!r})"
        raise RecipeInvalid(
            path=path,
            key=key or ("--set" if path == COMMAND_LINE else "recipe"),
            detail=detail,
            setting=setting,
        ) from error


def _location(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Where an error is, without the kind of a section that has several, which
    Pydantic puts behind its name."""
    field = Recipe.model_fields.get(str(location[0])) if location else None
    several = field is not None and len(sections_of(field.annotation)) > 1
    return location[:1] + location[2:] if several else location


def _key(location: tuple[int | str, ...], values: dict[str, Any]) -> tuple[str, str]:
    """A place in the recipe as --set names it, sources by their names; and the advice to
    set it, "" where --set sets no such thing: a section whose fields do not fit together,
    or a source that has no name."""
    parts: list[str] = []
    inner: Any = values
    settable = bool(location)
    for part in location:
        try:
            inner = inner[part]
        except (LookupError, TypeError):  # What is missing, or a name for one of several types.
            inner = None
        name = inner.get("name") if isinstance(part, int) and isinstance(inner, dict) else None
        settable &= isinstance(part, str) or isinstance(name, str)
        parts.append(name if isinstance(name, str) else str(part))
    key = ".".join(parts)
    settable &= not isinstance(inner, dict | tuple)
    return key, f", or with --set {key}=VALUE" if settable else ""


def known_keys(section: type[Section] = Recipe, prefix: str = "") -> list[str]:
    """Every dotted key a recipe may have, sections included."""
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        for inner in sections_of({"sources": Source, "phase": Phase}.get(name, field.annotation)):
            keys += [key for key in known_keys(inner, f"{prefix}{name}.") if key not in keys]
    return keys


def sections_of(kind: Any) -> list[type[Section]]:
    """The sections that a field's type allows: several where they are told apart by their kind."""
    if isinstance(kind, type):
        return [kind] if issubclass(kind, Section) else []
    return [section for argument in get_args(kind) for section in sections_of(argument)]


def _nearest(location: tuple[int | str, ...]) -> str:
    """The most similar key of the same section; failing that, the most
    similar last word anywhere."""
    *parents, unknown = [part for part in location if isinstance(part, str)]
    section = "".join(f"{parent}." for parent in parents)
    last_words: dict[str, str] = {}
    for key in known_keys():
        last_words.setdefault(key.rsplit(".", 1)[-1], key)
    siblings = {key.removeprefix(section): key for key in known_keys() if key.startswith(section)}
    siblings = {word: key for word, key in siblings.items() if "." not in word}
    for known in (siblings, last_words):
        for near in difflib.get_close_matches(unknown, known, n=1):
            return f" (did you mean {known[near]}?)"
    return ""
