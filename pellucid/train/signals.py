"""The signals that ask a run to stop after the step it is at."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[str]]:
    """A list that SIGTERM, SIGHUP or the first Ctrl-C puts its name into; a
    second Ctrl-C interrupts at once.

    What the process was started to ignore (SIGHUP under nohup) it ignores.
    """
    received: list[str] = []

    def handle(number: int, _: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signal.Signals(number).name)

    heard = [number for number in _TO_STOP if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in heard}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            # A lost process may have replaced it (train/messages.py).
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)
