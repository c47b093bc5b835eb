"""The command line as a person or a script meets it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SETTINGS, finish, make_run, pellucid

VERBS = [
    "demo",
    "new",
    "plan",
    "run",
    "fork",
    "status",
    "view",
    "show",
    "sample",
    "sql",
    "diff",
    "verify",
    "audit",
    "export",
    "publish",
]


def as_json(*words: object) -> dict:
    return json.loads(pellucid(*words, "--json").stdout)


def test_status_has_what_scripts_count_on(finished: Path) -> None:
    about = as_json("status", finished)
    assert (
        about["run"] == "small"
        and about["steps_done"] == 13
        and about["finished"]
        and about["sealed"]
    )
    assert re.fullmatch("[0-9a-f]{64}", about["head"]) and re.fullmatch(
        "[0-9a-f]{64}", about["weights"]
    )
    assert [one["step"] for one in about["validation"]] == [0, 5, 10, 13]
    assert all(set(one) >= {"step", "loss", "bits_per_byte"} for one in about["validation"])
    assert about["validation"][-1]["loss"] < about["validation"][0]["loss"]


def test_verify_and_audit_have_what_scripts_count_on(finished: Path) -> None:
    report = as_json("verify", finished)
    assert report["ok"] is True and report["problems"] == []
    found = as_json("audit", finished, "--step", "step3", "--step", "9")
    assert found["ok"] is True and [one["step"] for one in found["steps"]] == [3, 9]
    assert all(one["expected"] == one["actual"] and one["seconds"] >= 0 for one in found["steps"])


def test_audit_by_seed_has_what_scripts_count_on(finished: Path) -> None:
    found = as_json("audit", finished, "--steps", 3, "--seed", 7)
    assert found["ok"] and found["seed"] == 7 and len(found["steps"]) == 3
    assert (
        found["replayed"]
        == sum(one["replayed"] for one in found["steps"])
        == found["odds"]["compared"]
    )
    assert found["odds"]["sampled"] == 3 and 0 < found["odds"]["caught_wherever_they_lie"] < 1
    assert (
        as_json("audit", finished, "--steps", 3, "--seed", 7)["steps"][0]["step"]
        == found["steps"][0]["step"]
    )
    assert "would find one with a probability of" in pellucid("audit", finished, "--all").stdout


def test_audit_without_a_step_takes_one_at_random(finished: Path) -> None:
    assert 1 <= as_json("audit", finished)["steps"][0]["step"] <= 13


def test_show_a_step_a_block_and_a_document(finished: Path) -> None:
    step = as_json("show", finished, "step", "7")
    assert step["step"] == 7 and len(step["rows"]) == 4
    row = step["rows"][2]
    assert (
        len(row["tokens"]) == 33
        and abs(sum(one["loss"] for one in step["rows"]) / 4 - step["loss"]) < 1e-9
    )
    block = as_json("show", finished, "block", row["block"])
    seen = next(one for one in block["steps"] if one["step"] == 7)
    assert (seen["row"], seen["epoch"], seen["loss"]) == (2, row["epoch"], row["loss"])
    assert block["segments"][0]["text"] == row["segments"][0]["text"]
    document = as_json("show", finished, "document", row["segments"][0]["document"])
    assert row["block"] in [one["block"] for one in document["blocks"]]
    assert (
        row["segments"][0]["text"].replace("<|document|>", "").strip("\ufffd") in document["text"]
    )
    listed = json.loads(pellucid("show", finished, "documents", "--json").stdout)
    assert document["id"] in [one["id"] for one in listed]


def test_every_document_names_the_steps_that_trained_on_it(finished: Path) -> None:
    """From documents to steps and from steps to documents: the same pairs."""
    from pellucid.look.show import Shown

    shown = Shown(finished)
    forward = {
        (one["document"], step)
        for step in range(1, 14)
        for row in shown.step(step)["rows"]
        for one in row["segments"]
        if one["loss"] is not None
    }
    listed = [row for row in shown.list_documents() if row["split"] == "train"]
    backward = {
        (row["id"], seen["step"])
        for row in listed
        for held in shown.document(row["id"])["blocks"]
        for seen in held["steps"]
    }
    assert forward == backward


def test_show_prints_no_control_characters(finished: Path) -> None:
    from pellucid.terminal import printable

    assert printable("a\x1b[31mb\tc\u202ed\ne", 99) == "a\ufffd[31mb    c\ufffdd\ne"
    out = pellucid("show", finished, "step7").stdout
    assert "row 3" in out and "\x1b" not in out


def test_sample_is_repeatable_and_takes_any_step(finished: Path) -> None:
    words = ("sample", finished, "--step", 7, "--prompt", "light through", "--tokens", 12)
    first = pellucid(*words).stdout
    assert first.startswith("light through") and pellucid(*words).stdout == first
    assert (
        as_json(*words)["text"] == first.removeprefix("light through").rstrip("\n")
        or "\ufffd" in first
    )
    assert pellucid(*words, "--seed", 2).stdout != first
    assert as_json(*words, "--temperature", 0)["step"] == 7


def test_the_road_by_the_commands_of_the_readme(corpus: Path, tmp_path: Path) -> None:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    pellucid("new", tmp_path / "run", "--data", corpus, "--preset", "1M", *settings)
    pellucid("run", tmp_path / "run", "--only", "documents")
    assert as_json("status", tmp_path / "run")["stages"] == {
        "documents": True,
        "tokenizer": False,
        "shards": False,
        "index": False,
    }
    about = as_json("run", tmp_path / "run", "--set", "train.steps=3")
    assert about["finished"] and about["steps"] == 3
    pellucid("publish", tmp_path / "run", "--to", tmp_path / "copy")
    pellucid("verify", tmp_path / "copy")
    pellucid("export", tmp_path / "copy", "--step", 2, "--as", "hf", "--to", tmp_path / "hf")
    assert (tmp_path / "hf" / "model.safetensors").is_file()


def test_demo_runs_to_its_last_line(corpus: Path, tmp_path: Path) -> None:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    out = pellucid("demo", tmp_path / "demo", "--data", corpus, *settings).stdout
    assert "verify: ok" in out and "bit-equal" in out and "unigram" in out
    first, *others = out[out.index("Five things to try") :].splitlines()[1:]
    assert first == f"  pellucid view {tmp_path / 'demo'}"  # It serves until it is interrupted.
    for line in others:
        command = line.strip().removeprefix("pellucid ")
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)]
        words = [str(tmp_path / word) if word.startswith("demo-") else word for word in words]
        pellucid(*["7" if word in ("10", "25") else word for word in words])


def test_alone_it_starts_a_newcomer_or_shows_the_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = pellucid().stdout
    assert all(word in out for word in ("pellucid demo", "pellucid new", "pellucid verify"))
    for words in (["verify"], ["show", "step", "3"]):
        assert f"Name the run: pellucid {words[0]} RUN\n" in pellucid(*words, check=2).stderr
    monkeypatch.chdir(finished)
    out = pellucid().stdout
    assert "finished, sealed: step 13 of 13" in out
    assert out.count("\n  pellucid ") == 3
    pellucid("verify")
    pellucid("show", "step", "3")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    out = pellucid(verb, "--help").stdout
    assert "Usage: " in out and len(out.splitlines()) > 8


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        (("status", "nowhere"), 2, "RunMissing"),
        (("run", "nowhere"), 2, "RunMissing"),
        (("verify", "nowhere"), 2, "RunMissing"),
        (("show", "RUN", "step", "99"), 2, "StepUnknown"),
        (("show", "RUN", "step", "x"), 2, "CommandInvalid"),
        (("show", "RUN", "block", "99999"), 2, "BlockUnknown"),
        (("show", "RUN", "document", "x"), 2, "DocumentUnknown"),
        (("show", "RUN", "verse", "3"), 2, "CommandInvalid"),
        (("audit", "RUN", "--step", "99"), 2, "StepUnknown"),
        (("audit", "RUN", "--step", "3", "--all"), 2, "CommandInvalid"),
        (("audit", "RUN", "--budget", "soon"), 2, "CommandInvalid"),
        (("audit", "RUN", "--budget", "0.001s"), 2, "BudgetTooSmall"),
        (("audit", "RUN", "--step", "3", "--microbatch", "0"), 2, "MicrobatchUncommitted"),
        (("run", "RUN", "--anchors", "every=3"), 2, "ReleaseSealed"),
        (("run", "RUN", "--set", "placement.threads=2"), 2, "ReleaseSealed"),
        (("diff", "RUN", "nowhere"), 2, "RunMissing"),
        (("export", "RUN", "--to", "RUN"), 2, "FolderTaken"),
        (("export", "RUN", "--as", "pickle", "--to", "x"), 2, "CommandInvalid"),
        (("new", "x", "--data", "RUN", "--preset", "2M"), 2, "CommandInvalid"),
        (("run", "RUN", "--set", "train.lr=1"), 2, "SettingTooLate"),
        (("run", "RUN", "--set", "train.rl=1"), 2, "RecipeUnknownKey"),
    ],
)
def test_errors_are_named_on_one_line_with_their_code(
    words: tuple[str, ...], code: int, name: str, finished: Path, tmp_path: Path
) -> None:
    words = tuple(
        str(finished) if word == "RUN" else str(tmp_path / word) if word in ("nowhere",) else word
        for word in words
    )
    done = pellucid(*words, check=code)
    assert f"pellucid: {name}: " in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.strip().count("\n") == 0


def test_errors_are_json_for_scripts(finished: Path) -> None:
    read = json.loads(pellucid("show", finished, "step", 99, "--json", check=2).stdout)
    assert read["ok"] is False and read["error"] == "StepUnknown" and "99" in read["detail"]


def test_no_permission_is_named(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pellucid import errors
    from pellucid.store import files

    def denied(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(errors.NoPermission), files.whole_folder(tmp_path / "x"):
        pass


def test_every_error_has_the_exit_code_of_a_family() -> None:
    """What the messages say is held in test_errors.py."""
    from pellucid import errors

    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.PellucidError)
    ]
    codes = {kind: kind.exit_code for kind in kinds if kind is not errors.PellucidError}
    assert {kind for kind, code in codes.items() if code not in (2, 3, 4, 5, 6)} == set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("verify", "nowhere"), "nowhere is not a run: it has no recipe.toml. Correct the name"),
        (("verify", "--help"), "Check files, chains, data, batches, numbers and states"),
        (("show", "--help"), "pellucid show step 120"),
    ],
)
def test_errors_and_help_stay_where_python_leaves_docstrings_out(
    words: tuple[str, ...], said: str
) -> None:
    command = [sys.executable, "-OO", "-m", "pellucid", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "160"}
    )
    assert said in done.stdout + done.stderr


def test_a_release_can_be_moved(finished: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(finished, tmp_path / "elsewhere")
    assert as_json("audit", moved, "--step", 3)["ok"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        # A run alone where a text is asked for, and what stands nearest
        # to a name that is not there.
        (("where", "RUN"), "the text is missing; write: pellucid where RUN"),
        (("trace", "RUN"), "the text is missing; write: pellucid trace RUN"),
        (("show", "RUN", "document", "003.txt"), "did you mean stones/003.txt?"),
        (("show", "RUN", "document", "stones/0003.txt"), "did you mean stones/003.txt"),
        (("show", "RUN", "document", "of another world"), "in this run. "),
        (
            ("fork", "RUN", "--step", "3", "--set", "train.microbatch=3", "--to", "OUT"),
            "--set train.microbatch=2.",
        ),
        (
            ("fork", "RUN", "--step", "3", "--set", "train.lr=-1", "--to", "OUT"),
            ": the command line: train.lr: ",
        ),
        (
            ("fork", "RUN", "--step", "3", "--set", "train.lr=-1", "--to", "OUT"),
            "(it is -1). Correct it there.",
        ),
        (
            ("fork", "RUN", "--step", "3", "--set", "train.lr", "--to", "OUT"),
            "`pellucid fork --help`",
        ),
        (
            ("run", "RUN", "--set", "data.sources.stones.weight=-1"),
            "the command line: data.sources.stones.weight: ",
        ),
        (
            ("new", "OUT", "--data", "RUN", "--set", "train.batch=x"),
            "the command line: train.batch: ",
        ),
        (
            ("new", "OUT", "--data", "RUN", "--set", "train.bach=4"),
            "the command line: unknown key train.bach",
        ),
        (
            ("new", "OUT", "--data", "RUN", "--set", "train.steps=0"),
            "the command line: train.steps: ",
        ),
        # What is in the way of a folder.
        (
            ("new", "RUN/LICENSE/x", "--data", "RUN/LICENSE"),
            "Cannot make RUN/LICENSE/x: RUN/LICENSE is a file.",
        ),
        (
            ("export", "RUN", "--to", "RUN/LICENSE/x"),
            "Cannot make RUN/LICENSE/x: RUN/LICENSE is a file.",
        ),
        (
            ("publish", "RUN", "--to", "RUN/LICENSE/x"),
            "Cannot make RUN/LICENSE/x: RUN/LICENSE is a file.",
        ),
        (
            ("fork", "RUN", "--step", "3", "--to", "RUN/LICENSE/x"),
            "Cannot make RUN/LICENSE/x: RUN/LICENSE is a",
        ),
        (
            ("export", "RUN", "--to", "/proc/nope/x"),
            "FolderUnfit: Cannot make /proc/nope/x: No such file",
        ),
        (("export", "RUN", "--to", f"OUT/{'x' * 300}"), ": File name too long."),
        (
            ("run", "RUN", "--set", "train.lr=1"),
            "pellucid fork RUN --step K --set train.lr=1 --to DIR",
        ),
        (("where", "RUN", "--file", "OUT"), "OUT: no such file; --file takes the path of a text"),
        (
            ("where", "OUT", "x"),
            "OUT is not a run: it has no recipe.toml. Correct the name, or make a run: pellucid",
        ),
        (("run", "OUT"), "pellucid new OUT --data PATH"),
        (("status", "RUN/record"), "these texts: pellucid new mymodel --data RUN/record"),
        (("status", "RUN/checkpoints/step6"), "That folder is an exported model: name its run"),
        (("verify", "RUN/anchors/step5"), "That folder is an exported model: name its run"),
        # A folder that is taken by something else is no run to continue.
        (("export", "RUN", "--to", "RUN"), "Choose a new or empty folder."),
        (("new", "RUN", "--data", "RUN"), "continue that run with: pellucid run RUN"),
    ],
)
def test_errors_point_the_right_way(
    words: tuple[str, ...], said: str, finished: Path, tmp_path: Path
) -> None:
    names = {"RUN": str(finished), "OUT": str(tmp_path / "out")}
    for name, path in names.items():
        words, said = tuple(word.replace(name, path) for word in words), said.replace(name, path)
    done = pellucid(*words, check=2)
    assert said in done.stderr


def test_documents_are_listed_by_a_part_of_their_ids_and_up_to_a_limit(finished: Path) -> None:
    every = as_json("show", finished, "documents")
    some = as_json("show", finished, "documents", "s/00")
    assert len(every) == 40 and [one["id"] for one in some] == [
        f"stones/{number:03}.txt" for number in range(10)
    ]
    assert as_json("show", finished, "documents", "s/00", "--limit", 3) == some[:3]
    told = pellucid("show", finished, "documents", "s/00", "--limit", 3)
    assert told.stdout.count("\n") == 3 and "3 of 10 documents; --limit 0 lists all" in told.stderr
    none = pellucid("show", finished, "documents", "stones/0003.txt", check=1)
    assert "has stones/0003.txt in its id (did you mean stones/003.txt" in none.stderr


@pytest.mark.parametrize(
    "words", [("show", "documents"), ("show", "step", 3), ("where", "the river")]
)
def test_an_unknown_licence_is_called_one(words: tuple[object, ...], finished: Path) -> None:
    told = pellucid(words[0], finished, *words[1:]).stdout
    assert "  licence unknown" in told and "unknown" not in told.replace("licence unknown", "")


def test_every_option_that_takes_a_number_is_bounded() -> None:
    """A negative temperature or price computes something, and nan passes every bound."""
    from typing import get_args, get_type_hints

    from pellucid.cli import VERBS
    from pellucid.cli.common import finite

    seen = 0
    for verb in VERBS:
        for name, hint in get_type_hints(verb, include_extras=True).items():
            kind, *about = get_args(hint) or (None,)
            kinds = {kind, *get_args(kind)}
            if kinds & {int, float}:
                assert about and about[0].min is not None, f"{verb.__name__} {name}"
                assert float not in kinds or about[0].callback is finite, f"{verb.__name__} {name}"
                seen += 1
    assert seen >= 12 and finite(1.5) == 1.5 and finite(None) is None
    for value in ("nan", "inf", "-1"):
        assert (
            "--temperature" in pellucid("sample", "nowhere", "--temperature", value, check=2).stderr
        )


def test_a_run_that_is_prepared_shows_what_is_there_and_the_next_command(
    corpus: Path, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "small", corpus)
    assert "has no documents yet" in pellucid("show", folder, "documents", check=2).stderr
    told = pellucid("verify", folder, check=2).stderr
    assert told.startswith("pellucid: NotTrained: ") and told.count("\n") == 1
    finish(folder, "documents")
    assert pellucid("show", folder, "documents").stdout.count("stones/") == 40
    assert (
        "has no shards yet"
        in pellucid("show", folder, "document", "stones/003.txt", check=2).stderr
    )
    assert pellucid("status", folder).stdout.endswith(f"\nContinue with: pellucid run {folder}\n")
    done = pellucid("run", folder)
    assert done.stdout.endswith(
        f"\nNext:\n  pellucid sample {folder} --prompt TEXT\n  pellucid publish {folder}\n"
    )
    assert sum(line.startswith("index: ") for line in done.stderr.splitlines()) == 1
    said = pellucid("publish", folder).stdout
    assert "The release contains texts without a licence: 40 documents of stones." in said
    assert "--set data.sources.stones.licence=CC-BY-4.0" in said
    assert (
        "Continue with" not in pellucid("status", folder).stdout
        and "Next" not in pellucid("status", folder).stdout
    )
    # A ledger that was taken away is no run that was not trained.
    for name in ("manifest.jsonl", "record/ledger.jsonl"):
        (folder / name).unlink()
    assert "VerifyFailed" in pellucid("verify", folder, check=5).stderr


@pytest.mark.parametrize("module", ["pellucid.cli", "pellucid.run"])
def test_ctrl_c_while_libraries_are_loaded_is_one_line(module: str, finished: Path) -> None:
    """As early as the first import, and inside a verb."""
    code = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}:\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from pellucid.__main__ import main\n"
        f"sys.argv = ['pellucid', 'run', {str(finished)!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        done.returncode == 130
        and done.stderr.startswith("pellucid: interrupted")
        and done.stderr.count("\n") == 1
    )


def test_the_last_words_of_verify_follow_from_the_problems(release: Path, tmp_path: Path) -> None:
    (release / ".env").write_text("x")
    assert "Move the added files out of the folder." in pellucid("verify", release, check=5).stderr
    (release / ".env").unlink()
    for name in ("manifest.jsonl", "README.md"):
        (release / name).unlink()
    shutil.rmtree(release / "site")
    path = release / "record/ledger.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert f"Continue with: pellucid run {release}" in pellucid("verify", release, check=5).stderr
    path.write_bytes(path.read_bytes().replace(b'"step":7,', b'"step":9,', 1))
    assert "do not trust them" in pellucid("verify", release, check=5).stderr
