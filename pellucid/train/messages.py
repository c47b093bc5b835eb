"""Messages between processes by torch.distributed: gloo between CPUs, NCCL between GPUs.

Tensors whose shape and type the receiver knows, point to point or from one to all. Nothing is
pickled, and nothing is added on the way: an all-reduce adds in an order that is nobody's."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from pellucid.errors import ProcessLost
from pellucid.train.processes import Processes, Word, count, rank

# A process that dies closes its connections, and its partners see that at once. Only a machine that
# vanishes without a word is noticed by this. Longer than any wait inside a step.
_SILENCE = datetime.timedelta(minutes=30)
# The first process may prepare data for days before it tells the others.
_EVER = datetime.timedelta(days=3650)


@contextlib.contextmanager
def joined(folder: Path, device: str) -> Iterator[Processes]:
    """All processes that torchrun started, once all are there, each to compute on a
    device. Raises ProcessLost."""
    messages = _Messages(folder)
    backend = "gloo"
    if device == "cuda":  # Never run on a GPU yet: there was none.
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    with messages.reaching(None):
        dist.init_process_group(backend, timeout=_SILENCE)
    processes = Processes(rank(), count(), messages)
    try:
        yield processes
    except BaseException:
        # The error that ends this process is the one to tell.
        with contextlib.suppress(ProcessLost):
            processes.end()
        raise
    else:
        processes.end()
    finally:
        dist.destroy_process_group()


class _Messages:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def reaching(self, process: int | None) -> Iterator[None]:
        """What torch raises where a process cannot be reached, as ProcessLost;
        None: it does not tell which."""
        try:
            yield
        except RuntimeError as error:
            # torchrun now ends who is left with SIGTERM, and they still have to say why.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            lost = "another process" if process is None else f"process {process}"
            # Without advice, and without the places in brackets: lines of torch's, and addresses
            # that the journal would publish.
            detail = re.sub(
                r" ?\[.*?\](:\d+)? ?", "", str(error).partition(" This is typically")[0]
            )
            raise ProcessLost(
                process=rank(), lost=lost, detail=detail, path=self._folder
            ) from error

    def send(self, tensor: torch.Tensor, to: int) -> None:
        with self.reaching(to):
            dist.send(tensor, to)

    def receive(self, like: torch.Tensor, source: int) -> torch.Tensor:
        tensor = torch.empty_like(like)
        with self.reaching(source):
            dist.recv(tensor, source)
        return tensor

    def broadcast(self, tensors: list[torch.Tensor], source: int = 0) -> None:
        with self.reaching(None):
            for tensor in tensors:
                dist.broadcast(tensor, src=source)

    def gather(self, array: np.ndarray) -> list[np.ndarray]:
        """Every process's array, of the type and shape of this one's, by rank."""
        own = torch.from_numpy(array.view(np.uint8).copy())
        all_of_them = [torch.empty_like(own) for _ in range(count())]
        with self.reaching(None):
            dist.all_gather(all_of_them, own)
        return [part.numpy().view(array.dtype) for part in all_of_them]

    def tell(self, word: Word, first: int, second: int) -> None:
        for process in range(1, count()):
            self.send(torch.tensor([word, first, second]), process)

    def told(self) -> tuple[Word, int, int]:
        message = torch.zeros(3, dtype=torch.int64)
        with self.reaching(0):
            received = dist.irecv(message, 0)
            assert received is not None
            received.wait(_EVER)
        word, first, second = message.tolist()
        return Word(word), first, second
