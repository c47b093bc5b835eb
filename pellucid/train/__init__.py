"""Training: the step, the optimizer, the schedule, the state. Knows nothing of records or releases."""

import os

# Before torch loads GNU OpenMP: its threads spin while they wait, and where another process keeps a core
# busy a whole time slice is spun away at every operation (docs/log.md, 2026-11-23). No bit depends on it.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
