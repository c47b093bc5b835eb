"""Errors: each says what is wrong and how to fix it, in short sentences, with all of its fields;
and is the same one behind a pipe between processes."""

from __future__ import annotations

import ast
import inspect
import json
import multiprocessing
import re
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pellucid import errors
from pellucid.cli import VERBS
from pellucid.cli.common import name_of
from pellucid.errors import PellucidError
from tests import english

PACKAGE = Path(errors.__file__).parents[1]
KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, PellucidError)
}
# They only hold an exit code: nobody raises them.
GROUPS = {"PellucidError", *(kind.__name__ for kind in PellucidError.__subclasses__())}
RAISED = sorted(KINDS.keys() - GROUPS)
PLAUSIBLE = {"signal": "SIGTERM", "path": "/runs/a b", "step": 7, "count": 3, "found": {"a": [1]}}
# A fix is a command, or a sentence that opens with one of these.
NAMES = "|".join(map(name_of, VERBS))
COMMAND = re.compile(rf"\bpellucid (?:{NAMES})\b|\bpip install [a-z\"{{-]|\bulimit -")
ACTIONS = frozenset(
    re.findall(
        r"\w+",
        """Add Ask Audit Build Change Check Choose Continue Convert Copy Correct Count Delete
        Download Export Fix Free Give Install Leave Make Move Name Put Raise Read Rebuild
        Reinstall Remove Rename Replay Report Restore Run See Set Start Take Try Unpack
        Upgrade Use Wait Write Do""",
    )
)
CONDITION = re.compile(r"^(?:Or|Then|In a new run,|If [^,]*,)\s+(\w)")
BANNED = re.compile(r"\b(found|mend|least|whoever|such|belie\w+|asked of)\b")


def gaps(kind: type[PellucidError]) -> set[str]:
    """The fields that a message tells."""
    return {name for _, name, _, _ in string.Formatter().parse(kind.message) if name}


def plain(kind: type[PellucidError]) -> str:
    """A message as one line, with a word in every gap."""
    return re.sub(r"\{\w+(!r)?\}", "x", " ".join(kind.message.split()))


def tells_a_fix(text: str) -> bool:
    if COMMAND.search(text):
        return True
    after = [CONDITION.sub(lambda found: found[1].upper(), one) for one in sentences(text)]
    return any(one.split()[0].strip(",:").capitalize() in ACTIONS for one in after)


def sentences(text: str) -> list[str]:
    return [one for one in re.split(r"(?<=[.:;]) +", text) if one.strip()]


def problems(kind: type[PellucidError]) -> list[str]:
    """What is wrong with the wording of a class."""
    text = plain(kind)
    reading = english.read(text)
    return [
        *(["no fix"] if not ("fix" in gaps(kind) or tells_a_fix(text)) else []),
        *([f"{reading.length:.1f} words a sentence"] if reading.length >= 17 else []),
        *([f"opens weakly: {text}"] if reading.weak else []),
        *([f"{word} in: {text}" for word in BANNED.findall(text)]),
        *([line for line in kind.message.splitlines() if len(line) > 120]),
    ]


def calls() -> Iterator[tuple[str, str, set[str]]]:
    """Where the package makes an error: the place, the class, and the fields that it is given.
    Not the calls whose fields are in a dictionary."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            given = {one.arg for one in node.keywords}
            for inner in ast.walk(node.func):
                if isinstance(inner, ast.Name) and inner.id in RAISED and None not in given:
                    place = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                    yield place, inner.id, {name for name in given if name}


def fixes() -> Iterator[tuple[str, str]]:
    """Every text in the package that fills a gap called fix: an argument or a variable of that
    name, or what a function of that name returns."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            place = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
                if isinstance(node.value, ast.Tuple):
                    pairs = zip(node.targets[0].elts, node.value.elts, strict=True)
                    yield from ((place, text) for a, b in pairs if _is_fix(a) for text in _texts(b))
            elif (isinstance(node, ast.Assign) and _is_fix(node.targets[0])) or (
                isinstance(node, ast.keyword) and node.arg == "fix"
            ):
                yield from ((place, text) for text in _texts(node.value))
            elif isinstance(node, ast.FunctionDef) and node.name.strip("_") == "fix":
                answers = [one for one in ast.walk(node) if isinstance(one, ast.Return)]
                yield from ((place, text) for one in answers for text in _texts(one.value))


def _is_fix(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id.lower().split("_")[-1] == "fix"


def _texts(value: ast.expr | None) -> list[str]:
    """A text that is written there, its gaps as a word; none where a call gives it."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return [value.value]
    if isinstance(value, ast.JoinedStr):
        parts = (one.value if isinstance(one, ast.Constant) else "x" for one in value.values)
        return ["".join(map(str, parts))]
    return []


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("whole", [True, False], ids=["all fields", "without the optional ones"])
def test_every_error_survives_the_way_between_processes(name: str, whole: bool) -> None:
    kind = KINDS[name]
    wanted = gaps(kind) - (set() if whole else set(kind.optional))
    error = kind(**{gap: PLAUSIBLE.get(gap, f"the {gap}") for gap in wanted})
    here, there = multiprocessing.Pipe()
    with here, there:
        there.send(error)
        again = here.recv()
    assert type(again) is kind and again.args == error.args and again.fields == error.fields
    assert (str(again), again.name, again.exit_code) == (str(error), name, error.exit_code)
    assert "{" not in str(again).replace(str(PLAUSIBLE["found"]), "") and "\n" not in str(again)


def test_the_errors_are_all_of_them() -> None:
    """Those that are raised are under their own names in pellucid.errors."""
    found, left = set(), [PellucidError]
    while left:
        kind = left.pop()
        found.add(kind)
        left += kind.__subclasses__()
    assert {kind for kind in found if kind.__module__.startswith("pellucid.")} == set(
        KINDS.values()
    )
    assert len(KINDS) > 80


@pytest.mark.parametrize("name", RAISED)
def test_every_message_names_a_fix_in_short_sentences(name: str) -> None:
    assert problems(KINDS[name]) == []


@pytest.mark.parametrize(
    ("message", "wrong"),
    [
        ("{path} is not there.", "no fix"),
        ("{path} is not there: pellucid fetch {path}", "no fix"),
        ("{path} is damaged, and what depends on it too. Nothing is lost.", "opens weakly"),
        ("Delete {path}, " + "and then the next file " * 4 + "too.", "words a sentence"),
        ("The file {path} was found. Delete it.", "found in"),
        ("{path} is missing. Run it\n" + "again " * 21, "again again"),
    ],
)
def test_a_message_that_reads_badly_is_a_problem(message: str, wrong: str) -> None:
    kind = type("Bad", (), {"message": message})
    assert any(wrong in one for one in problems(kind))  # pyright: ignore[reportArgumentType]


def test_every_fix_that_the_package_writes_is_a_fix() -> None:
    written = [*fixes()]
    assert len(written) > 12
    assert [one for one in written if not tells_a_fix(one[1])] == []


def test_a_fix_comes_from_its_caller_in_few_classes() -> None:
    """What a user should do is in the class, where this test reads it."""
    assert {name for name in RAISED if "fix" in gaps(KINDS[name])} == {
        *("CorpusTooSmall", "FolderTaken", "FormatForeign", "LimitReached"),
        *("PageInvalid", "RunMissing", "StateDiffers", "TextKeyMissing", "VerifyFailed"),
    }


def test_a_message_uses_every_field_and_gets_every_field() -> None:
    sources = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    read = set(re.findall(r'fields\["(\w+)"\]', sources))
    made, wrong = set[str](), list[str]()
    for place, name, given in calls():
        kind = KINDS[name]
        made.add(name)
        if kind.__init__ is not PellucidError.__init__:  # It fills some gaps itself.
            continue
        unused, missing = given - gaps(kind) - read, gaps(kind) - given - set(kind.optional)
        wrong += [f"{place}: {name}: {sorted(unused | missing)}"] if unused | missing else []
    assert wrong == []
    assert len(made) > 70


def test_optimised_python_keeps_every_message() -> None:
    """-OO takes out docstrings and asserts."""
    program = (
        "import json; from pellucid import errors; print(json.dumps({name: kind.message "
        "for name, kind in vars(errors).items() if hasattr(kind, 'exit_code')}))"
    )
    ran = subprocess.run([sys.executable, "-OO", "-c", program], capture_output=True, check=True)
    assert json.loads(ran.stdout) == {name: kind.message for name, kind in KINDS.items()}


def test_windows_is_told_in_a_line_like_every_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pellucid import __main__, errors

    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == errors.SystemUnfit.exit_code
    assert capsys.readouterr().err.startswith("pellucid: SystemUnfit: ")
