"""What goes between the two processes."""

from __future__ import annotations

import json
from pathlib import Path

from pellucid.errors import (
    FormatInvalid,
    PellucidError,
    QueryLost,
)
from pellucid.sql import line


def test_an_error_arrives_as_it_was_raised() -> None:
    error = FormatInvalid(path=Path("a/b"), detail="is \x1b odd")
    told = line.untold(json.loads(json.dumps(line.told(error))))
    assert type(told) is FormatInvalid and str(told) == str(error)
    assert isinstance(line.untold({"error": "inspect", "fields": {}}), QueryLost)
    assert isinstance(line.untold({"error": None}), PellucidError)
