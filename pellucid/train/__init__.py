"""Training: the step, the optimizer, the schedule, the state. Knows
nothing of records or releases."""
