"""Completions: right ones pass, and no trivial one does; the sandbox bounds what a program does."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from pellucid.errors import SandboxMissing
from pellucid.evaluate.suite import completion, confined, sandbox
from pellucid.record.metrics import MEASURED
from pellucid.record.requests import Example, Generate

TASK = completion.completion()
EXAMPLES = {example.name: example for example in TASK.examples}


def rated(name: str, text: str) -> tuple[float, float, float]:
    (numbers,) = completion.rate([EXAMPLES[name]], [text])
    assert [*numbers] == ["parses", "compiles", "passes"]
    parses, compiles, passes = numbers.values()
    return parses, compiles, passes


# ---- completions ----


@pytest.mark.parametrize("name", [*EXAMPLES][::4])
def test_the_solution_passes(name: str) -> None:
    assert rated(name, completion.solutions()[name]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("    return n + 3", (1, 1, 0)),
        ("    return n + 2 # right", (1, 1, 1)),
        ("    return n + 2\nadd_2 = None", (1, 1, 1)),  # Behind the body.
        ("    total = n + 2\n    return total", (1, 1, 1)),
        ("    return n +", (0, 0, 0)),
        ("    break", (1, 0, 0)),
        ("    return undefined", (1, 1, 0)),
        ("    print(n + 2)", (1, 1, 0)),
        ("    while True:\n        pass", (1, 1, 0)),
        ("return n + 2", (0, 0, 0)),
        ("", (0, 0, 0)),
    ],
)
def test_what_a_completion_is_worth(text: str, expected: tuple[int, ...]) -> None:
    assert rated("add_2", text) == expected


def test_no_example_is_passed_by_a_constant_or_the_parameter() -> None:
    for example in TASK.examples:
        assert isinstance(example.target, str)
        lines = example.target.split("\n")
        results = lines[1::2]
        arguments = [line.partition("(")[2][:-1] for line in lines[::2]]
        assert len(results) == len({*arguments}) == 5
        assert len({*results}) > 1 and results != arguments


def test_hidden_examples_are_hidden() -> None:
    for example in TASK.examples:
        assert isinstance(example.request, Generate) and isinstance(example.target, str)
        calls = example.target.split("\n")[::2]
        assert [f"    {call}\n" in example.request.context for call in calls] == [
            *(True, True, False, False, False)
        ]


def test_a_body_that_knows_the_shown_examples_alone_fails() -> None:
    example = EXAMPLES["square"]
    assert isinstance(example.target, str)
    lines = example.target.split("\n")
    shown = {line[11:-1]: result for line, result in zip(lines[:4:2], lines[1:4:2], strict=True)}
    table = ", ".join(f"{argument}: {result}" for argument, result in shown.items())
    assert rated("square", f"    return {{{table}}}.get(n)") == (1, 1, 0)


def test_the_numbers_are_measured() -> None:
    assert TASK.metric == MEASURED


# ---- the sandbox ----

TRY = """
import os, sys
def tried(function, *arguments):
    try:
        function(*arguments)
    except BaseException as error:
        return type(error).__name__
    return "done"
"""


def value(expression: str, before: str = "") -> str:
    outcome = sandbox.run(TRY + before, [expression])
    assert outcome.compiles and len(outcome.values) == 1, outcome
    return outcome.values[0]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "kept"
    path.write_text("as it was")
    path.chmod(0o666)
    tmp_path.chmod(0o777)
    return path


@pytest.mark.parametrize(
    "attempt",
    [
        "open, {path}",
        "open, {path}, 'w'",
        "open, 'new', 'x'",
        "os.remove, {path}",
        "os.rename, {path}, {path} + '2'",
        "os.chmod, {path}, 0",
        "os.mkdir, {path} + '3'",
        "os.symlink, {path}, {path} + '4'",
        "os.listdir, '/'",
        "os.fork,",
        "os.execv, sys.executable, ['python', '-V']",
        "os.posix_spawn, sys.executable, ['python', '-V'], {{}}",
        "os.kill, 0, 9",
        "os.kill, -1, 0",
        "os.setuid, 0",
        "os.pipe,",
        "__import__, '_socket'",
    ],
)
def test_what_a_program_tries_fails(attempt: str, kept: Path) -> None:
    before = sorted(os.listdir(kept.parent))  # noqa: PTH208
    asked = attempt.format(path=repr(str(kept)))
    assert value(f"tried({asked})") in ("'PermissionError'", "'OSError'", "'ModuleNotFoundError'")
    assert kept.read_text() == "as it was" and kept.stat().st_mode & 0o777 == 0o666
    assert sorted(os.listdir(kept.parent)) == before  # noqa: PTH208


def test_the_attempts_would_work_elsewhere(kept: Path) -> None:
    """Without the filter, most of the limits alone would let a program remove a file."""
    names: dict = {}
    exec(TRY, names)  # noqa: S102
    assert names["tried"](os.remove, str(kept)) == "done" and not kept.exists()


def test_no_connection_can_be_made() -> None:
    import socket

    number = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
    calling = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    asked = f"(libc.syscall({number}, 2, 1, 0), ctypes.get_errno())"
    assert value(asked, calling) == "(-1, 1)"  # EPERM.
    socket.socket().close()  # As everybody else may.


def test_memory_is_bounded() -> None:
    assert value("tried(bytes, 1 << 30)") == "'MemoryError'"
    assert value("tried(bytes, 1 << 24)") == "'done'"


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import os\nwhile True: os.write(1, b'x' * 65536)",
        "import os\nos._exit(0)",
        "raise SystemExit(0)",
        "def f(n): return f(n + 1)\nf(0)",
        "x = 'a' * (1 << 40)",
        "import time\ntime.sleep(100)",
    ],
)
def test_a_program_that_does_not_end_well_is_a_failure(program: str) -> None:
    outcome = sandbox.run(program, ["1"])
    assert outcome.parses and outcome.compiles and not outcome.values


@pytest.mark.parametrize("depth", [100_000, 5_000])
def test_a_program_that_no_parser_bears_is_a_failure(depth: int) -> None:
    assert sandbox.run("x = " + "(" * depth + ")" * depth, []) == (False, False, ())


def test_a_value_that_a_program_writes_itself_is_one_too_many() -> None:
    forged = "import os\nos.write(1, b'is ' + b'1'.hex().encode() + b'\\n')\n"
    assert sandbox.run(forged, ["1"]).values == ("1", "1")
    assert sandbox.run("import os\nos.write(1, b'is zz\\n')", []).values == ("",)


def test_a_process_that_waits_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    waiting = tmp_path / "waiting.py"
    waiting.write_text("import os, time\nos.write(1, b'confined\\n')\ntime.sleep(600)\n")
    monkeypatch.setattr(confined, "__file__", str(waiting))
    monkeypatch.setattr(sandbox, "_SECONDS", 1.0)
    begin = time.monotonic()
    assert sandbox.run("1", []) == (False, False, ())
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("free OSError: no filter", "OSError: no filter"),
        ("", "the process ended before it was confined"),
    ],
)
def test_a_machine_that_cannot_confine_is_named(
    line: str, detail: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unfit = tmp_path / "unfit.py"
    unfit.write_text(f"print({line!r}, end='')\n")
    monkeypatch.setattr(confined, "__file__", str(unfit))
    with pytest.raises(SandboxMissing, match=detail):
        sandbox.run("x = 1", ["x"])


def test_a_processor_that_the_filter_does_not_know_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = Path(confined.__file__).read_text("utf-8")
    unknown = tmp_path / "unknown.py"
    unknown.write_text(source.replace('"x86_64": (', '"y": (').replace('"aarch64": (', '"z": ('))
    monkeypatch.setattr(confined, "__file__", str(unknown))
    with pytest.raises(SandboxMissing, match="KeyError"):
        sandbox.run("x = 1", ["x"])


def test_the_program_in_the_sandbox_is_of_python_alone() -> None:
    assert "pellucid" not in Path(confined.__file__).read_text("utf-8")
    assert sys.platform == "linux"


def test_common_modules_can_be_imported() -> None:
    assert sandbox.run("import math, re", ["math.gcd(12, 18)"]).values == ("6",)
    assert sandbox.run("import decimal", ["1"]).values == ()


def test_a_rating_that_nobody_made_is_noticed() -> None:
    with pytest.raises(AssertionError):
        [*completion.rate([EXAMPLES["square"]._replace(target=None)], ["    return n * n"])]
    with pytest.raises(ValueError, match="shorter"):
        [*completion.rate([EXAMPLES["square"]], [])]


def test_examples_have_one_name_each() -> None:
    assert len(EXAMPLES) == len(TASK.examples) == len(completion.solutions()) == 110
    assert all(isinstance(example, Example) for example in TASK.examples)
