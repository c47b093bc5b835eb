"""The cards of a release."""
