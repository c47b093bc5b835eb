"""Looking at a run: where it stands, what a step saw, what the model of a step says."""
