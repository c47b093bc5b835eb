"""Which C sources a library was built from. Imports nothing of ours: setup.py runs this file."""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent / "src"


def digest(folder: Path = FOLDER) -> str:
    """SHA-256 over the names and contents of the C files, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.[ch]"), key=lambda path: path.name):
        content = path.read_bytes()
        total.update(f"{path.name} {len(content)}\n".encode() + content)
    return total.hexdigest()
