"""Several processes give the bits of one: the tree by itself, over threads."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import queue
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from pellucid import errors, run
from pellucid.inputs import Inputs
from pellucid.operations import portable
from pellucid.recipe import load
from pellucid.terminal import Terminal
from pellucid.train import messages
from pellucid.train.events import Batch
from pellucid.train.gradients import GradientTree
from pellucid.train.processes import Processes, Word, _owners, cores, count, rank
from pellucid.train.state import initial
from pellucid.train.step import training_step

ROOT = Path(__file__).parents[2]
PATIENCE = 20  # Seconds: whoever waits longer for a message of another thread waits for ever.


class Formulas:
    """Operations on tensors that hold the number of a formula: two sums are equal if
    they are made the same way."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._lock = threading.Lock()

    def number(self, formula: object) -> int:
        with self._lock:
            return self._numbers.setdefault(formula, len(self._numbers))

    def add_into(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a.fill_(self.number((a.item(), b.item())))


class Queues:
    """Messages between threads. As gloo's, a send ends when its receiver has taken it."""

    def __init__(
        self, rank: int, count: int, lines: dict[tuple[int, int], queue.Queue[Any]]
    ) -> None:
        self.rank, self.count, self.lines, self.sent = rank, count, lines, 0

    def put(self, value: Any, to: int) -> None:
        self.lines[self.rank, to].put(value)
        self.lines[self.rank, to].join()

    def get(self, source: int) -> Any:
        value = self.lines[source, self.rank].get(timeout=PATIENCE)
        self.lines[source, self.rank].task_done()
        return value

    def send(self, tensor: torch.Tensor, to: int) -> None:
        self.sent += 1
        self.put(tensor.clone(), to)

    def receive(self, like: torch.Tensor, source: int) -> torch.Tensor:
        tensor = self.get(source)
        assert tensor.shape == like.shape and tensor.dtype == like.dtype
        return tensor

    def broadcast(self, tensors: list[torch.Tensor], source: int = 0) -> None:
        for tensor in tensors:
            if self.rank != source:
                tensor.copy_(self.get(source))
                continue
            for other in set(range(self.count)) - {source}:
                self.put(tensor.clone(), other)

    def gather(self, mine: np.ndarray) -> list[np.ndarray]:
        found = [mine] * self.count
        for source, to in itertools.permutations(range(self.count), 2):
            if self.rank == source:
                self.put(mine.copy(), to)
            elif self.rank == to:
                found[source] = self.get(source)
                assert (found[source].shape, found[source].dtype) == (mine.shape, mine.dtype)
        return found

    def tell(self, word: Word, first: int, second: int) -> None:
        self.tell_all((word, first, second))

    def tell_all(self, value: Any) -> None:
        for other in range(1, self.count):
            self.put(value, other)

    def told(self) -> tuple[Word, int, int]:
        return self.get(0)


def together(count: int, work: Callable[[Processes], Any]) -> list[Any]:
    """What each of `count` processes, here threads, gives; the error where it raised one."""
    lines: dict[tuple[int, int], queue.Queue[Any]] = {
        pair: queue.Queue() for pair in itertools.permutations(range(count), 2)
    }
    given: list[Any] = [None] * count

    def one(rank: int) -> None:
        try:
            given[rank] = work(
                Processes(rank, count, Queues(rank, count, lines) if count > 1 else None)
            )
        except Exception as error:  # noqa: BLE001 - shown by the assertion on what was given.
            given[rank] = error

    threads = [threading.Thread(target=one, args=(rank,), daemon=True) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
        assert not thread.is_alive(), "processes wait for each other"
    return given


def counted(terms: list[Any], add: Callable[[Any, Any], Any]) -> Any:
    """docs/arithmetic.md, section 2.3, as it is written there: a binary
    counter, then from the smallest up."""
    sums: list[tuple[int, Any]] = []
    for term in terms:
        sums.append((1, term))
        while len(sums) > 1 and sums[-2][0] == sums[-1][0]:
            (size, left), (_, right) = sums[-2:]
            sums[-2:] = [(2 * size, add(left, right))]
    total = sums.pop()[1]
    while sums:
        total = add(sums.pop()[1], total)
    return total


def added(processes: Processes, formulas: Any, names: list[int]) -> tuple[list[int], int]:
    """The total of two tensors for each microbatch, and how many sums this process has sent."""
    own, parameters = processes.own(len(names)), [torch.zeros(1, dtype=torch.int64)] * 2
    tree = GradientTree(formulas, own.start)
    for index in own:
        tree.add([torch.tensor([names[index]]), torch.tensor([names[index]])])
    total = processes.total(tree, len(names), parameters)  # type: ignore[arg-type]
    assert not tree.blocks
    return [int(tensor) for tensor in total], getattr(processes.messages, "sent", 0) // 2


@pytest.mark.parametrize("count", range(1, 10))
def test_any_number_of_processes_adds_in_the_one_tree(count: int) -> None:
    formulas = Formulas()
    names = [formulas.number(f"microbatch {index}") for index in range(40)]
    for microbatches in range(1, 41):
        chosen = names[:microbatches]
        expected = counted(chosen, lambda a, b: formulas.number((a, b)))
        given = together(count, lambda processes, chosen=chosen: added(processes, formulas, chosen))
        assert [total for total, _ in given] == [[expected, expected]] * count
        if microbatches % count == 0 and (microbatches // count).bit_count() == 1:
            # Whole subtrees: each other process sends one sum.
            assert sum(sent for _, sent in given) == count - 1


def test_the_order_of_additions_is_noticed() -> None:
    formulas = Formulas()
    from_the_left = formulas.number((formulas.number((0, 1)), 2)), 3
    assert formulas.number(from_the_left) != counted(
        [0, 1, 2, 3], lambda a, b: formulas.number((a, b))
    )


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_what_one_process_makes_all_have(count: int) -> None:
    costs = {"b": 5, "a": 5, "c": 1, "d": 3, "e": 2}
    like = {name: torch.zeros(cost, 2) for name, cost in costs.items()}

    def work(processes: Processes) -> tuple[list[str], list[tuple[str, list[float]]]]:
        own: list[str] = []

        def make(name: str) -> torch.Tensor:
            own.append(name)
            return torch.full((costs[name], 2), float(ord(name)))

        return own, [
            (name, one.unique().tolist()) for name, one in processes.each(costs, like, make)
        ]

    given = together(count, work)
    assert all(had == [(name, [float(ord(name))]) for name in costs] for _, had in given)
    assert sorted(name for own, _ in given for name in own) == sorted(costs)
    shares = {1: ["abcde"], 2: ["ad", "bec"], 3: ["ac", "b", "de"], 5: [*"abdec"]}
    assert [set(own) for own, _ in given] == [set(one) for one in shares[count]]


@hypothesis.given(st.lists(st.integers(1, 10**15), max_size=40), st.integers(1, 9))
def test_owners_have_about_equal_work(costs: list[int], processes: int) -> None:
    named = {f"w{index}": cost for index, cost in enumerate(costs)}
    owners = _owners(named, processes)
    assert owners == _owners(dict(reversed(named.items())), processes)  # Whoever lists them how.
    load = [sum(named[n] for n, owner in owners.items() if owner == p) for p in range(processes)]
    assert sum(load) == sum(costs) and max(load) - min(load) <= max(costs, default=0)


@pytest.mark.parametrize(("count", "microbatches"), [(1, 5), (2, 5), (4, 8), (4, 5), (9, 4)])
def test_every_process_has_all_records(count: int, microbatches: int) -> None:
    kind = np.dtype([("losses_bT", np.float32, (2, 3)), ("gradient_root", "V32")])

    def work(processes: Processes) -> np.ndarray:
        records = np.zeros(microbatches, kind)
        for index in processes.own(microbatches):
            records[index] = np.full((2, 3), index + 0.5), bytes([index + 1]) * 32
        return processes.completed(records)

    for records in together(count, work):
        assert [one["losses_bT"].tolist() for one in records] == [
            [[i + 0.5] * 3] * 2 for i in range(microbatches)
        ]
        assert [one["gradient_root"].tobytes() for one in records] == [
            bytes([i + 1]) * 32 for i in range(microbatches)
        ]


def test_all_refuse_what_one_has_otherwise_and_all_hear_of_a_signal() -> None:
    def work(processes: Processes) -> list[str]:
        processes.signals += ["SIGTERM"] * (processes.rank == 1)
        processes.compare({"recipe": b"r" * 32, "data root": b"d" * 32})
        processes.compare({"recipe": b"r" * 32, "data root": bytes([processes.rank == 2]) * 32})
        return processes.signals

    for given in together(3, work):
        assert isinstance(given, errors.ProcessDiffers)
        assert str(given).startswith(
            "Process 2 has another data root than the first process: 010101"
        )

    def signalled(processes: Processes) -> list[str]:
        processes.signals += ["SIGTERM"] * (processes.rank == 1)
        processes.compare({"recipe": b"r" * 32})
        return processes.signals

    assert together(3, signalled) == [
        ["a signal to process 1"],
        ["SIGTERM"],
        ["a signal to process 1"],
    ]


NAN, OTHER_NAN = struct.unpack("<2d", struct.pack("<2Q", 0x7FF8000000000000, 0xFFF8000000000001))


@pytest.mark.parametrize(
    ("norms", "agreed"),
    [
        ((1.0, 1.0, 1.0), True),
        ((NAN, OTHER_NAN, NAN), True),
        ((1.0, 1.0, NAN), False),
        ((math.inf, 1.0, 1.0), False),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_norm_that_is_not_finite_is_so_for_all_or_ends_all(
    norms, agreed: bool, place: int
) -> None:
    tokens = np.zeros((1, 2), np.uint32)
    none = np.zeros(1, np.int64)
    batch = Batch(7, none, none, none, ["a"], none, tokens, np.zeros((1, 2), np.int64))

    def work(processes: Processes) -> None:
        own = [1.0, 1.0]
        own[place] = norms[processes.rank]
        processes.agree(batch, *own)

    for given in together(3, work):
        assert (given is None) is agreed
        assert agreed or (
            "another norm of the" in str(given) and isinstance(given, errors.ProcessDiffers)
        )


def test_all_take_part_in_a_step_that_one_finds_not_finite(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process alone computes a norm of gradients that is none: nobody waits for
    it, and nobody takes the step."""
    recipe = load(finished)
    inputs = Inputs.load(finished, recipe)
    states, batch = [initial(recipe, inputs.vocabulary) for _ in range(2)], inputs.batch(1)
    alone, lock = states[0].model.ops.norm_of, threading.Lock()

    def work(processes: Processes) -> Any:
        with lock:  # The kernels' numbers are not at stake here.
            threading.current_thread().name = str(processes.rank)
        return training_step(states[processes.rank], batch, recipe, processes)

    def norm_of(gradients: Any) -> float:
        return math.nan if threading.current_thread().name == "1" else alone(gradients)

    monkeypatch.setattr(portable, "norm_of", norm_of)
    for given in together(2, work):
        assert isinstance(
            given, errors.ProcessDiffers
        ) and "norm of the gradients at step 1" in str(given)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_only_a_run_on_gpus_takes_gpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str
) -> None:
    """Each process takes one of its own: of a run on CPUs there may be more than GPUs."""
    asked: list[object] = []
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", asked.append)
    monkeypatch.setattr(
        messages.dist, "init_process_group", lambda backend, **_: asked.append(backend)
    )
    monkeypatch.setattr(messages.dist, "destroy_process_group", lambda: None)
    with messages.joined(tmp_path, device):
        pass
    assert asked == {"cpu": ["gloo"], "cuda": [3, "cpu:gloo,cuda:nccl"]}[device]


def test_processes_meet_before_the_first_replays(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    @contextlib.contextmanager
    def joined(folder: Path, device: str) -> Iterator[Processes]:
        done.append(f"met for {device}")
        yield Processes(0, 2, None)

    monkeypatch.setattr(messages, "joined", joined)
    monkeypatch.setattr(run, "process_count", lambda: 2)
    run.run(finished, Terminal(quiet=True), before=lambda: done.append("replayed"))
    assert done == ["met for cpu", "replayed"]


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells on Linux alone")
def test_a_process_whose_launcher_dies_does_not_stay(tmp_path: Path) -> None:
    """Killed before all have met: nobody else would ever tell the others."""
    child = (
        "import time; from pellucid.train import processes; "
        "processes.follow_launcher(); print(flush=True); time.sleep(60)"
    )
    launcher = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {child!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
    variables = {
        **os.environ,
        "TORCHELASTIC_RUN_ID": "some",
        "RANK": "1",
        "WORLD_SIZE": "2",
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(
        [sys.executable, "-c", launcher], stdout=subprocess.PIPE, env=variables
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
    until = time.monotonic() + 20
    while _runs(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    place = Path(f"/proc/{pid}/stat")
    try:
        return place.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_everybody_gets_the_first_state_and_goes_home(finished: Path) -> None:
    recipe = load(finished)
    states = [initial(recipe.model_copy(update={"seed": seed}), 300) for seed in range(3)]
    states[0].step = 5

    def work(processes: Processes) -> list[Any]:
        state, words = states[processes.rank], []
        if processes.rank == 0:
            processes.share(state, [(12, 9)])
            processes.end()
        else:
            words += [processes.told(), processes.told()]
            state.step = words[0][1]
            processes.share(state)
            words.append(processes.told())
        return [state.roots().state, words]

    expected = initial(recipe.model_copy(update={"seed": 0}), 300)
    expected.step = 5
    root = expected.roots().state
    heard = [(Word.STATE, 5, 1), (Word.ROLLBACK, 12, 9), (Word.END, 0, 0)]
    assert together(3, work) == [[root, []], [root, heard], [root, heard]]


def test_cores_are_shared_and_only_torchrun_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "3", "WORLD_SIZE": "64", "LOCAL_WORLD_SIZE": "64"}.items():
        monkeypatch.setenv(name, value)
    alone = cores()
    assert (rank(), count()) == (0, 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "some")
    assert (rank(), count(), cores()) == (3, 64, max(1, alone // 64))
