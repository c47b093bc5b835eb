"""What every forgery begins with, and how the work of catching it is written down."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pellucid.recipe import load
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay import inputs as replay_inputs
from pellucid.replay.audit import Finding, audit_step
from tests.conftest import finish, make_run

Told = Callable[[str, object], None]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A run whose data is made, and which has taken no step."""
    folder = make_run(tmp_path_factory.mktemp("prepared") / "small", corpus)
    for stage in ("documents", "tokenizer", "shards"):
        finish(folder, only=stage)
    return folder


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """A finished run of another seed, whose states a forger takes."""
    folder = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("stranger") / "small"))
    text = (folder / "recipe.toml").read_text(encoding="utf-8")
    (folder / "recipe.toml").write_text(re.sub(r"(?m)^seed = 1\b", "seed = 2", text), encoding="utf-8")
    finish(folder)
    publish(folder)
    return folder


def audited(folder: Path, step: int) -> Finding:
    return audit_step(replay_inputs.load(folder, load(folder)), step, lambda done, total: None)


class Check:
    """Holds a release against verify and audit, and tells what catching it took."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def verify_finds(self, folder: Path, *expected: tuple[str, str]) -> None:
        """verify finds these problems (error name, part of where or what), and each of them; no step is replayed."""
        report = verify(folder, lambda what: None)
        for error, named in expected:
            assert any(p.error == error and named in f"{p.where} {p.detail}" for p in report.problems), report.problems
        self._tell("verify", expected[0][0], expected[0][1], 0, report.seconds)

    def verify_passes(self, folder: Path) -> None:
        assert verify(folder, lambda what: None).problems == []

    def only_audit_finds(self, folder: Path, step: int, cause: str, innocent: tuple[int, ...]) -> None:
        """verify passes, and so do audits of other steps; the audit of this one names it and the cause."""
        self.verify_passes(folder)
        for other in innocent:
            assert audited(folder, other).ok, audited(folder, other)
        found = audited(folder, step)
        assert not found.ok and cause in found.problems[0], found
        assert f"step {step}" in found.problems[0]
        self._tell(f"audit of step {step}", "", cause, found.replayed, found.seconds)

    def nobody_finds(self, folder: Path, names: str = "") -> None:
        """Neither verify nor any audit can tell: docs/threats.md admits it."""
        self.verify_passes(folder)
        assert audited(folder, 1).ok and audited(folder, 7).ok and audited(folder, 13).ok
        self._tell("nobody", "", names, 0, 0.0)

    def _tell(self, who: str, error: str, names: str, replayed: int, seconds: float) -> None:
        for key, value in {"by": who, "error": error, "names": names, "replayed": replayed, "seconds": seconds}.items():
            self._told(key, value)


@pytest.fixture
def check(record_property: Any) -> Check:
    return Check(record_property)
