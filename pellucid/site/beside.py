"""`pellucid run --view`: the pages of a run, served by a process beside its training, which gives
none of its time for it. That process ends with the training, however that ends: it holds the other
end of a pipe."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from pellucid import machine
from pellucid.errors import PellucidError
from pellucid.site.view import server

_PATIENCE = 5.0  # Seconds until it is killed.
_CHILD = "import sys; sys.path[:] = {path!r}; from pellucid.site.beside import main; main()"


@contextlib.contextmanager
def beside(folder: Path, tell: Callable[[str, str], None]) -> Iterator[None]:
    """Serve a run while what is done inside goes on. tell: of the address; of an empty one and the
    reason where there is none."""
    path = [str(Path(entry).absolute()) for entry in sys.path]
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _CHILD.format(path=path), str(folder.absolute())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(os.environ) | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdin and process.stdout
    words = process.stdout
    # It speaks once it is ready, and training does not wait for that.
    listener = threading.Thread(target=lambda: _pass_on(words.readline(), tell), daemon=True)
    listener.start()
    try:
        yield
    finally:
        process.stdin.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        listener.join()
        words.close()


def _pass_on(line: bytes, tell: Callable[[str, str], None]) -> None:
    if line:  # Else the training ended before the process was ready.
        tell(*json.loads(line))


def main() -> None:
    """The process: the run's folder is its argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C asks the training to stop.
    os.nice(10)  # Whatever else there is to do comes first.
    threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    machine.bound_memory()
    try:
        with server(Path(sys.argv[1])) as serving:
            _say(serving.address, "")
            serving.serve_forever()
    except PellucidError as error:
        _say("", str(error))


def _say(*words: str) -> None:
    print(json.dumps(words), flush=True)


def _end_with_the_pipe() -> None:
    sys.stdin.buffer.read()
    os._exit(0)
