"""The one direction of imports: a room may import those before it, and no other."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pellucid

PACKAGE = Path(pellucid.__file__).parent
# From the ground up. A room may import itself and what stands before it.
ROOMS = [
    "error",
    "errors",
    "philox",
    "record",
    "store",
    "machine",
    "recipe",
    "counts",
    "data",
    "huggingface",
    "kernels",
    "operations",
    "model",
    "train",
    "recorder",
    "journal",
    "replay",
    "look",
    "trace",
    "release",
    "new",
    "fork",
    "run",
    "plan",
    "demo",
    "terminal",
    "sql",
    "opened",
    "cli",
]
WITHOUT_TORCH = [
    "record",
    "store",
    "data",
    "recorder",
    "release.verify",
    "release.publish",
    "look.status",
    "look.show",
    "trace",
    "sql",
]
MAX_LINES = 500


def modules() -> dict[str, Path]:
    paths = {
        path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path for path in PACKAGE.rglob("*.py")
    }
    return {name.removesuffix(".__init__"): path for name, path in paths.items()}


def imports(path: Path) -> set[str]:
    """Our own modules that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.removeprefix("pellucid.") for name in names if name.startswith("pellucid.")}
    return found


def room(module: str) -> str:
    return module.split(".")[0]


def upward(graph: dict[str, set[str]]) -> list[str]:
    wrong = []
    for module, imported in graph.items():
        for other in imported:
            if room(other) in ROOMS and ROOMS.index(room(other)) > ROOMS.index(room(module)):
                wrong.append(f"{module} imports {other}")
    return sorted(wrong)


def resolve(name: str, known: set[str]) -> str | None:
    """The module an imported name lies in: pellucid.a.b.function -> a.b."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def graph() -> dict[str, set[str]]:
    known = modules()
    found = {name: {resolve(one, set(known)) for one in imports(path)} for name, path in known.items()}
    return {
        name: {one for one in others if one}
        for name, others in found.items()
        if name not in ("pellucid", "__main__", ".")
    }


def test_no_import_points_up() -> None:
    assert upward({name: others for name, others in graph().items() if room(name) in ROOMS}) == []


def test_every_module_stands_in_a_room() -> None:
    outside = {name for name in modules() if room(name) not in ROOMS}
    assert outside <= {"__init__", "__main__"}


def test_an_arrow_that_points_up_is_found() -> None:
    assert upward({"record.merkle": {"store.files"}, "store.files": {"errors"}}) == [
        "record.merkle imports store.files"
    ]


def circles(graph: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()
    found = []

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append(" -> ".join([*path[path.index(name) :], name]))
        elif name not in done:
            for other in sorted(graph.get(name, set())):
                visit(other, [*path, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def test_no_import_circle() -> None:
    assert circles(graph()) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a -> b -> c -> a"]


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_no_torch_in_what_reads_and_verifies(name: str) -> None:
    known = graph()
    waiting = [module for module in known if module == name or module.startswith(name + ".")]
    reached: set[str] = set()
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting += [other for other in known.get(module, ()) if other not in reached]
    assert reached
    with_torch = [
        m
        for m in sorted(reached)
        if "import torch" in modules()[m].read_text() or "from torch" in modules()[m].read_text()
    ]
    assert with_torch == []


def test_no_file_is_long() -> None:
    long = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: count for name, count in long.items() if count > MAX_LINES} == {}


REQUIREMENTS = PACKAGE.parent / "requirements"
ONLY_LISTED = """
import importlib.abc, importlib.metadata, sys

listed = {line.split("==")[0].lower().replace("_", "-") for line in open(sys.argv.pop(1)) if "==" in line}
known = importlib.metadata.packages_distributions()

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        owners = {owner.lower().replace("_", "-") for owner in known.get(name.partition(".")[0], ())}
        if owners and not owners & (listed | {"pellucid"}):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from pellucid.cli import main
main()
"""


@pytest.mark.parametrize(
    "words",
    [["verify"], ["status"], ["show", "step", "7"], ["where", "a"], ["sql", "SELECT count(*) FROM steps"], ["publish"]],
    ids=lambda words: words[0],
)
def test_what_computes_nothing_needs_only_what_is_listed(release: Path, words: list[str]) -> None:
    verb, *others = words
    command = [sys.executable, "-c", ONLY_LISTED, str(REQUIREMENTS / "verify.txt"), verb, ".", *others]
    done = subprocess.run(command, cwd=release, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_listed_is_what_is_locked() -> None:
    listed, locked = ((REQUIREMENTS / name).read_text().splitlines() for name in ("verify.txt", "lock.txt"))
    lines = {line for line in listed if "==" in line}
    assert len(lines) > 20 and lines <= set(locked)
