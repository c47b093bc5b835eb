"""The release: sealing a run folder, and checking one without torch."""
