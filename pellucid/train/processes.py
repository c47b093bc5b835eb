"""Several processes that take one step together, started by torchrun (docs/adr/0018-processes.md).

Every process holds the whole state. Each computes the gradients of its own microbatches, the sum of
all is made in the one fixed tree and sent to every process, and all of them take the same update on
the same bits. So no bit depends on their number. The first process alone keeps the run: ledger,
journal, metrics, anchors."""

from __future__ import annotations

import ctypes
import enum
import hashlib
import math
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pellucid import machine
from pellucid.errors import ProcessDiffers
from pellucid.train.events import Batch

# `pellucid run` asks for its rank before it knows whether torch is needed at all.
if TYPE_CHECKING:
    from torch import Tensor, nn

    from pellucid.train.gradients import GradientTree
    from pellucid.train.state import State


_PR_SET_PDEATHSIG = 1  # linux/prctl.h.


def rank() -> int:
    """Which of torchrun's processes this is; 0 where torchrun did not start it."""
    return _launched("RANK", 0)


def count() -> int:
    """How many processes torchrun started, on all machines."""
    return _launched("WORLD_SIZE", 1)


def follow_launcher() -> None:
    """Let this process be asked to stop (SIGTERM) when torchrun dies: nobody else would, above all
    where it waits for others that were never started. Linux alone does."""
    if count() > 1 and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def on_this_machine() -> int:
    return _launched("LOCAL_WORLD_SIZE", 1)


def cores() -> int:
    """How many cores this process may use; several processes on one machine share them."""
    return max(1, machine.cores() // on_this_machine())


def _launched(variable: str, alone: int) -> int:
    return int(os.environ[variable]) if "TORCHELASTIC_RUN_ID" in os.environ else alone


class Word(enum.IntEnum):
    """What the first process tells the others to do."""

    END = 0
    PREPARED = 1  # The data are there: read them.
    STATE = 2  # Take my state, of a step, behind so many rollbacks, which follow …
    ROLLBACK = 3  # … each from an offending step to an earlier one.
    STEP = 4


class Messages(Protocol):
    """Tensors from process to process: train/messages.py by torch.distributed, tests by queues.

    Every method raises ProcessLost.
    """

    def send(self, tensor: Tensor, to: int) -> None: ...
    def receive(self, like: Tensor, source: int) -> Tensor: ...
    def broadcast(self, tensors: list[Tensor], source: int = 0) -> None: ...
    def gather(self, array: np.ndarray) -> list[np.ndarray]: ...
    def tell(self, word: Word, first: int, second: int) -> None: ...
    def told(self) -> tuple[Word, int, int]: ...


class Processes:
    """All processes of a run, as one of them sees them."""

    def __init__(self, rank: int, count: int, messages: Messages | None) -> None:
        self.rank, self.count, self.messages = rank, count, messages
        self.signals: list[str] = []  # To stop: received here, or by another process.
        self._listening = True  # Whether the others wait to be told something.

    # ---- one step -------------------------------------------------------------------------------

    def own(self, microbatches: int) -> range:
        """The microbatches that this process computes.

        All have equally many, but the last ones fewer or none: any other division takes as long,
        for the longest share decides, and this one cuts the fewest subtrees."""
        share = self._share(microbatches)
        return range(microbatches)[self.rank * share : (self.rank + 1) * share]

    def _share(self, microbatches: int) -> int:
        return -(-microbatches // self.count)

    def total(
        self, tree: GradientTree, microbatches: int, parameters: list[nn.Parameter]
    ) -> list[Tensor]:
        """The sum of the gradients of all microbatches, on every process.
        tree holds those of this one."""
        total = self._sum(tree, 0, microbatches, self._share(microbatches))
        if self.messages:
            total = total or [
                parameter.detach().new_empty(parameter.shape) for parameter in parameters
            ]
            self.messages.broadcast(total)
        assert total is not None
        return total

    def _sum(self, tree: GradientTree, start: int, stop: int, share: int) -> list[Tensor] | None:
        """The sum over the microbatches start … stop - 1, on the process that
        computes `start`; None on the others.

        Every process walks through the tree in the same order, so no two
        of them wait for each other."""
        if stop <= self.rank * share or (self.rank + 1) * share <= start:
            return None
        if (start, stop) in tree.blocks:
            return tree.blocks.pop((start, stop))
        middle = tree.middle(start, stop)
        left, right = self._sum(tree, start, middle, share), self._sum(tree, middle, stop, share)
        if left is not None:
            return tree.join(left, right or self._received(left, middle // share))
        if right is not None:
            self._send(right, start // share)
        return None

    def _send(self, tensors: list[Tensor], to: int) -> None:
        assert self.messages
        for tensor in tensors:
            self.messages.send(tensor, to)

    def _received(self, like: list[Tensor], source: int) -> Iterator[Tensor]:
        """One by one, so that no second set of gradients is held."""
        assert self.messages
        for tensor in like:
            yield self.messages.receive(tensor, source)

    def each(
        self, costs: Mapping[str, int], like: Mapping[str, Tensor], make: Callable[[str], Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        """For each name in the order of costs, a tensor with the shape of the one like it: its
        owner makes it, and every process has it. Owners have work of about equal costs."""
        if not self.messages:
            yield from ((name, make(name)) for name in costs)
            return
        owners = _owners(costs, self.count)
        owned = {name: make(name) for name, owner in owners.items() if owner == self.rank}
        for name in costs:
            tensor = owned.pop(name) if name in owned else like[name].new_empty(like[name].shape)
            self.messages.broadcast([tensor], owners[name])
            yield name, tensor

    def completed(self, records: np.ndarray) -> np.ndarray:
        """One record for each microbatch, of which this process has
        filled its own: with everybody's."""
        if not self.messages:
            return records
        own = self.own(len(records))
        padded = np.zeros(self._share(len(records)), records.dtype)
        padded[: len(own)] = records[own.start : own.stop]
        return np.concatenate(self.messages.gather(padded))[: len(records)]

    def agree(self, batch: Batch, grad_norm: float, weight_norm: float) -> None:
        """Raises ProcessDiffers where another process trained on another batch, or came to other
        gradients or weights: also where only some of them are not finite. So all of them see
        alike what follows from a step."""
        if self.messages:
            tokens = hashlib.sha256(batch.tokens_BS.tobytes() + batch.documents_BS.tobytes())
            step = f"step {batch.step}"
            self.compare(
                {
                    f"batch at {step}": tokens.digest(),
                    f"norm of the gradients at {step}": _digest(grad_norm),
                    f"norm of the weights after {step}": _digest(weight_norm),
                }
            )

    # ---- between steps --------------------------------------------------------------------------

    def tell(self, word: Word, first: int = 0, second: int = 0) -> None:
        """From the first process to the others, which then do the same as it does."""
        if self.messages and self.rank == 0:
            self._listening = False
            self.messages.tell(word, first, second)

    def told(self) -> tuple[Word, int, int]:
        """What the first process tells next, however long that takes: the word, and
        the numbers that go with it."""
        assert self.messages
        return self.messages.told()

    def compare(self, digests: Mapping[str, bytes]) -> None:
        """Raises ProcessDiffers where another process has another digest
        (32 bytes) than the first one.

        Tells at the same time whether any of them has been asked to stop, and ends what was told.
        """
        if not self.messages:
            return
        message = bytes([bool(self.signals)]) + b"".join(digests.values())
        rows = [row.tobytes() for row in self.messages.gather(np.frombuffer(message, np.uint8))]
        for process, row in enumerate(rows):
            for place, name in enumerate(digests):
                digest, expected = (
                    record[1 + 32 * place :][:32].hex() for record in (row, rows[0])
                )
                if digest != expected:
                    raise ProcessDiffers(
                        process=process, what=name, found=digest, expected=expected
                    )
            if row[0] and not self.signals:
                self.signals.append(f"a signal to process {process}")
        self._listening = True

    def share(self, state: State, rollbacks: Sequence[tuple[int, int]] = ()) -> None:
        """Give every process the first one's state, and the rollbacks that led there. Raises
        ProcessDiffers where it arrives as another."""
        if self.messages:
            self.tell(Word.STATE, state.step, len(rollbacks))
            for rollback in rollbacks:
                self.tell(Word.ROLLBACK, *rollback)
            self.messages.broadcast(state.tensors())
            self.compare({"state": state.roots().state})

    def end(self) -> None:
        """Send the others home, where they wait for a word. Those in the middle of a
        step see that this one left."""
        if self._listening:
            self.tell(Word.END)


def _owners(costs: Mapping[str, int], processes: int) -> dict[str, int]:
    """Who does what: the costliest first, each by who has least to do; of equals the first."""
    load, owners = [0] * processes, {}
    for name in sorted(costs, key=lambda name: (-costs[name], name.encode())):
        owners[name] = load.index(min(load))
        load[owners[name]] += costs[name]
    return owners


def _digest(norm: float) -> bytes:
    """Every NaN taken as one: its bits are no result."""
    return hashlib.sha256(struct.pack("<d", norm if norm == norm else math.nan)).digest()


ALONE = Processes(0, 1, None)
