"""What follows from a run's record beside its numbers: nothing here is stored."""
