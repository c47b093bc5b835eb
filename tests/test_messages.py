"""What the command line says of a wrong word: the place, the reason, and the way out."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from pellucid.cli import VERBS
from pellucid.cli.common import name_of, reads_addresses, steps_named
from pellucid.errors import CommandInvalid, PellucidError, QueryInvalid
from tests.conftest import pellucid

ZEROS = "0" * 64


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("show", "RUN", "block", "999999"), "BlockUnknown: Block 999999 is not in this run", 2),
        (("prove", "RUN", "block", "999999"), "blocks to train on, counted from 0", 2),
        (("sample", "RUN", "--step", "-1"), "`pellucid sample --help`", 2),
        (("fork", "RUN", "--step", "x", "--to", "OUT"), "`pellucid fork --help`", 2),
        (("export", "RUN", "--step", "x", "--to", "OUT"), "`pellucid export --help`", 2),
        (("trace", "RUN", "a text", "--before", "x"), "`pellucid trace --help`", 2),
        (
            ("fork", "RUN", "--to", "OUT"),
            "(--step K). Correct it there, or with --set train.steps=19",
            2,
        ),
        (
            ("fork", "RUN", "--to", "OUT", "--set", "train.steps=13"),
            "train.steps: is 13, so no step",
            2,
        ),
        (
            ("check-proof", "RUN", "--head", ZEROS),
            "not a file but a folder; name the file of a proof",
            2,
        ),
        (("check-proof", "RUN/README.md", "--head", "00"), "00: --head takes the whole head", 2),
        (("check-proof", "RUN/README.md", "--head", ZEROS), "ProofUnreadable: This file is no", 5),
        (("check-proof", "RUN/config.json", "--head", ZEROS), 'with the key "pellucid"', 5),
        (("plan", "http://127.0.0.1:1/x"), "pellucid plan needs a folder, and http", 2),
        (("audit", "RUN", "--steps", "999", "--seed", "1"), "only 13 steps, and all are", 0),
    ],
)
def test_a_wrong_word(
    finished: Path, tmp_path: Path, words: tuple[str, ...], said: str, code: int
) -> None:
    places = {"RUN": str(finished), "OUT": str(tmp_path / "out")}
    put = ["/".join(places.get(part, part) for part in word.split("/")) for word in words]
    told = " ".join(pellucid(*put, check=code).stderr.split())
    assert said in told
    assert not (tmp_path / "out").exists()


def test_an_audit_that_does_not_fit_says_so_by_its_exit_code(finished: Path) -> None:
    words = ("audit", finished, "--all", "--dry-run", "--budget", "0.001s")
    assert "It does not fit (time)" in pellucid(*words, check=1).stdout
    assert json.loads(pellucid(*words, "--json", check=1).stdout)["fits"] is False


def test_an_address_is_read_by_the_verbs_that_are_said_to_read_it() -> None:
    """With nobody there a verb of the list asks the server, and another one refuses."""
    with socket.socket() as taken:  # A port on which nobody listens.
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/release"
        told = pellucid("audit", url, check=2).stderr
        behind = {
            "show": ("step", "1"),
            "prove": ("step", "1"),
            "where": ("text",),
            "trace": ("text",),
            "sql": ("from steps",),
            "export": ("--to", "nowhere"),
            "fork": ("--to", "nowhere"),
        }
        listed = told.partition("read an address: ")[2].strip().removesuffix(".").split(", ")
        assert set(listed) == {name_of(verb) for verb in VERBS if reads_addresses(verb)}
        for name in listed:
            said = pellucid(name, url, *behind.get(name, ()), check=3).stderr
            assert f"no connection to {url.split('/')[2]} (Connection refused)" in said
        not_of_runs = {"new", "demo", "check-proof", "download"}
        alone = {name_of(verb) for verb in VERBS} - {*listed, *not_of_runs}
        for name in alone:
            assert "FolderNeeded" in pellucid(name, url, *behind.get(name, ()), check=2).stderr


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        ('did you mean "steps"?', 'query: did you mean "steps"? List the'),
        ("there is none", "query: there is none. List the"),
        ("there is none.", "query: there is none. List the"),
        ("it lies in ..", "query: it lies in ... List the"),
    ],
)
def test_a_sentence_ends_once(detail: str, said: str) -> None:
    error: PellucidError = QueryInvalid(detail=detail)
    assert said in str(error)


def test_steps_are_named() -> None:
    assert steps_named("--at", "last", 0, 20) == [20]
    assert steps_named("--at", "0,step7,last", 0, 20) == [0, 7, 20]
    assert steps_named("--at", "every=8", 3, 20) == [3, 8, 16, 20]
    assert steps_named("--at", "log", 0, 20) == [0, 1, 2, 4, 8, 16, 20]
    assert steps_named("--at", "log", 3, 4) == [3, 4]
    for word in ("", "first", "every=0", "1,,2", "-1"):
        with pytest.raises(CommandInvalid, match="--at"):
            steps_named("--at", word, 0, 20)
