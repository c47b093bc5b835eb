"""The one direction of imports: a room may import those before it, and no other."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pellucid

PACKAGE = Path(pellucid.__file__).parent
# From the ground up. A room may import itself and what stands before it.
ROOMS = [
    "errors",
    "philox",
    "record",
    "store",
    "measured",
    "machine",
    "sections",
    "wording",
    "kernels",
    "families",
    "optimizers",
    "objectives",
    "operations",
    "learning_rates",
    "schedule",
    "phases",
    "corpus",
    "recipe",
    "settings",
    "forked",
    "counts",
    "data",
    "huggingface",
    "model",
    "train",
    "recorder",
    "journal",
    "changes",
    "inputs",
    "assist",
    "watcher",
    "training",
    "replay",
    "evaluate",
    "look",
    "trace",
    "site",
    "cards",
    "release",
    "places",
    "prove",
    "analysis",
    "new",
    "fork",
    "run",
    "plan",
    "demo",
    "terminal",
    "answers",
    "notebook",
    "sql",
    "opened",
    "report",
    "cli",
]
WITHOUT_TORCH = [
    "record",
    "store",
    "schedule",
    "data",
    "recorder",
    "release.verify",
    "release.publish",
    "look.status",
    "look.show",
    "evaluate.builtin",
    "evaluate.suite",
    "analysis",
    "cards",
    "measured",
    "trace",
    "site",
    "sql",
    "report",
]
MAX_LINES = 500


def modules() -> dict[str, Path]:
    paths = {
        path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path
        for path in PACKAGE.rglob("*.py")
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
    found = {
        name: {resolve(one, set(known)) for one in imports(path)} for name, path in known.items()
    }
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


def reached(graph: dict[str, set[str]], module: str) -> set[str]:
    """A module, and all that it imports, and so on."""
    waiting, done = [module], set[str]()
    while waiting:
        done.add(one := waiting.pop())
        waiting += graph.get(one, set()) - done
    return done


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_no_torch_in_what_reads_and_verifies(name: str) -> None:
    known = graph()
    named = [module for module in known if module == name or module.startswith(name + ".")]
    found = {one for module in named for one in reached(known, module)}
    assert found
    assert [
        module for module in sorted(found) if imports_torch(modules()[module].read_text())
    ] == []


def imports_torch(source: str) -> bool:
    """Whether a module imports torch anywhere, but for the names of types."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import) and any(
            one.name.split(".")[0] == "torch" for one in node.names
        ):
            return True
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            return True
        if (
            isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
        ):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
    return False


def test_an_import_of_torch_is_found_wherever_it_stands() -> None:
    assert imports_torch("def f():\n    import torch.nn\n") and imports_torch(
        "if x:\n    from torch import nn\n"
    )
    assert not imports_torch(
        "if TYPE_CHECKING:\n    from torch import Tensor\n"
    ) and not imports_torch("import torchy")


def test_no_file_is_long() -> None:
    """Of ours: of tests and tools too."""
    rooms = ("pellucid", "tests", "fuzz", "bench")
    paths = [path for room in rooms for path in (PACKAGE.parent / room).rglob("*.py")]
    long = {path.as_posix(): len(path.read_text().splitlines()) for path in paths}
    assert len(long) > 300
    assert {name: count for name, count in long.items() if count > MAX_LINES} == {}


REQUIREMENTS = PACKAGE.parent / "requirements"
ONLY_LISTED = """
import importlib.abc, importlib.metadata, sys

listed = {line.split("==")[0].lower().replace("_", "-")
    for line in open(sys.argv.pop(1)) if "==" in line}
known = importlib.metadata.packages_distributions()

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        owners = {owner.lower().replace("_", "-")
            for owner in known.get(name.partition(".")[0], ())}
        if owners and not owners & (listed | {"pellucid"}):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from pellucid.cli import main
main()
"""


@pytest.mark.parametrize(
    "words",
    [
        ["verify"],
        ["status"],
        ["show", "step", "7"],
        ["where", "a"],
        ["report", "--to", "../report"],
        ["sql", "SELECT count(*) FROM steps"],
        ["publish"],
    ],
    ids=lambda words: words[0],
)
def test_what_computes_nothing_needs_only_what_is_listed(release: Path, words: list[str]) -> None:
    verb, *others = words
    command = [
        sys.executable,
        "-c",
        ONLY_LISTED,
        str(REQUIREMENTS / "verify.txt"),
        verb,
        ".",
        *others,
    ]
    done = subprocess.run(command, cwd=release, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_listed_is_what_is_locked() -> None:
    listed, locked = (
        (REQUIREMENTS / name).read_text().splitlines() for name in ("verify.txt", "lock.txt")
    )
    lines = {line for line in listed if "==" in line}
    assert len(lines) > 20 and lines <= set(locked)


# ---- what opens files ----

# Calls that open a file by its name. Our own functions of such names belong to modules
# (files.read_bytes) and classes.
OPENING = {
    *(
        "open",
        "fdopen",
        "read_bytes",
        "read_text",
        "memmap",
        "fromfile",
        "genfromtxt",
        "loadtxt",
        "memory_map",
    ),
    *(
        "OSFile",
        "input_stream",
        "ParquetFile",
        "ParquetDataset",
        "read_table",
        "read_schema",
        "read_metadata",
    ),
    *(
        "dataset",
        "safe_open",
        "load_file",
        "from_file",
        "from_pretrained",
        "scandir",
        "copyfile",
        "copy2",
        "copytree",
    ),
}
OURS = {"files", "Shards", "Documents", "pieces", "home"}
# Everything that opens by name: what is opened there, and why it need not be a plain file of a run.
ALLOWED = {
    "store/files.py": "the one way, the lock, and the flushing of what was written",
    "store/log.py": "the ledger and the journal to append to, under the lock that refuses links",
    "store/arrays.py": "maps and reads what files.open_file opened; a nameless file of its own",
    "store/parquet.py": "the descriptor that files.open_file opened; a footer in memory",
    "store/remote.py": "no file of this machine",
    "data/formats.py": "the user's own texts",
    "data/tables.py": "the user's own texts, Parquet",
    "data/packings.py": "the user's own texts, packed",
    "data/packages.py": "files of an installed package, held against its RECORD",
    "data/sources.py": "the user's own folders of texts",
    "journal.py": "this package's own source; what the system tells of the processor",
    "kernels/library.py": "what the building of this package left behind",
    "kernels/sources.py": "this package's own sources",
    "machine.py": "what the system tells of memory and processors",
    "sql/asked.py": "a stream of Arrow in memory; the manifest behind a URL",
    "sql/worker.py": "the pipes it was started with; what the system tells of its memory",
    "cards/facts.py": "the licence that is installed with this package",
    "places/send.py": "no file of this machine",
    "release/publish.py": "the licence that is installed with this package",
    "site/shell.py": "the pages that are installed with this package",
    "report/chart.py": "the styles and the page that are installed with this package",
    "__init__.py": "pellucid.open, which opens no file",
}


def opened(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = function.value if isinstance(function, ast.Attribute) else None
        ours = isinstance(owner, ast.Name) and owner.id in OURS
        # "x" makes a new file, and follows no link to do so.
        new = any(isinstance(one, ast.Constant) and one.value == "xb" for one in node.args)
        if name in OPENING and not ours and not new:
            yield node


def found(package: Path) -> dict[str, list[int]]:
    by_file = {}
    for path in sorted(package.rglob("*.py")):
        lines = [node.lineno for node in opened(ast.parse(path.read_bytes()))]
        if lines:
            by_file[path.relative_to(package).as_posix()] = lines
    return by_file


def test_nothing_in_a_run_is_opened_in_another_way() -> None:
    places = found(PACKAGE)
    assert {path: lines for path, lines in places.items() if path not in ALLOWED} == {}
    assert set(ALLOWED) == set(places), "an exception that nothing needs any more"


@pytest.mark.parametrize(
    "line",
    [
        "open(path)",
        "path.open('rb')",
        "(folder / 'a').read_bytes()",
        "np.memmap(path)",
        "pq.read_table(path)",
        "pq.ParquetFile(path)",
        "os.open(path, 0)",
        "gzip.open(path)",
        "path.open('wb')",
    ],
)
def test_the_rule_finds(line: str) -> None:
    assert list(opened(ast.parse(line)))


def test_the_rule_lets_pass() -> None:
    for line in (
        "files.open_file(path)",
        "files.read_bytes(path, 9)",
        "Shards.open(folder)",
        "path.open('xb')",
    ):
        assert not list(opened(ast.parse(line)))
