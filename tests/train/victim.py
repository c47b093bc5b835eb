"""`pellucid run` in one of several processes, one of which dies or is told
to stop in the middle of a step.

python -m torch.distributed.run … -m tests.train.victim
kill|stop|torchrun|batch|spike PROCESS STEP RUN"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from pellucid import cli
from pellucid.train import loop, processes
from tests.conftest import spiking

how, process, at = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
real = loop.training_step


def step(state: Any, batch: Any, recipe: Any, together: processes.Processes) -> Any:
    if batch.step == at and processes.rank() == process:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "batch":
            batch.tokens_BS[-1, -1] ^= 1
        else:
            os.kill(os.getppid() if how == "torchrun" else os.getpid(), signal.SIGTERM)
            while not together.signals:
                time.sleep(0.01)
    return real(state, batch, recipe, together)


# A spike comes to every process alike, and makes the run go back.
loop.training_step = spiking(real, at) if how == "spike" else step
sys.argv = ["pellucid", "run", *sys.argv[4:]]
cli.main()
