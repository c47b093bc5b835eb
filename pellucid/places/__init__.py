"""Where releases are sent to, and brought back from."""
