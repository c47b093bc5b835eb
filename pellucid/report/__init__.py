"""A technical report of a run, or of runs beside each other, filled from the record alone."""
