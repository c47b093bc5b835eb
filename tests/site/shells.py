"""Write the digests of the shell as it is now into shells.json: python -m tests.site.shells

Only for a version that was never released: what was released stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

from pellucid.site import shell
from pellucid.site.overview import SCHEMA


def write() -> None:
    path = Path(shell.__file__).parent / "shell" / "shells.json"
    versions = json.loads(path.read_bytes())
    versions[str(shell.VERSION)] = {"schema": SCHEMA, "files": shell.digests()}
    path.write_text(json.dumps(versions, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
