"""Before a run starts: what it will take, counted from its recipe; and what keeps its bits, measured."""

import pellucid.train  # noqa: F401 - before torch: it says how torch's threads wait.
