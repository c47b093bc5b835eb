"""The format: entries, chains, roots and verdicts. Pure functions over
bytes; no file is opened here."""
