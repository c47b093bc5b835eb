"""Before a run starts: what it will take, counted from its recipe; and
what keeps its bits, measured."""
