"""Write the digests of the shell as it is now into shells.json: python -m tests.site.shells

Only for a version that was never released: what was released stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

from pellucid.site import shell


def write() -> None:
    path = Path(shell.__file__).parent / "shell" / "shells.json"
    known = {str(version): own for version, own in shell.known().items()}
    known[str(shell.VERSION)] = shell.digests()
    path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
