"""The console script, and `python -m pellucid`."""

from __future__ import annotations

import sys


def main() -> None:
    """Ctrl-C while the first libraries are loaded is told as later: without a traceback."""
    if sys.platform == "win32":  # No fcntl there, which the files of a run are locked with.
        from pellucid.errors import SystemUnfit

        error = SystemUnfit(system="Windows")
        print(f"pellucid: {error.name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    try:
        from pellucid.cli import main as command
    except KeyboardInterrupt:
        print("pellucid: interrupted", file=sys.stderr)
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
