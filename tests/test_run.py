"""A run killed at any moment ends with the bits of the one left alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid import demo, errors
from pellucid.changes import change_recipe
from pellucid.look.status import status
from pellucid.run import run
from pellucid.store import files, layout, log
from pellucid.store.ledger import LedgerFile
from pellucid.terminal import Terminal
from tests.conftest import finish, make_run, pellucid, write_corpus


class Interrupt(Terminal):
    """Raises at a chosen step, where a crash would be."""

    def __init__(self, at: int, error: BaseException) -> None:
        super().__init__(quiet=True)
        self.at, self.error = at, error

    def step(self, number: int, loss: float, tokens_per_second: float, lr: float) -> None:
        if number == self.at:
            raise self.error


def identity(folder: Path) -> tuple[str, str]:
    about = status(folder)
    assert about["finished"]
    return about["head"], about["weights"]


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pellucid", "run", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )


def test_killed_at_random_moments_it_ends_with_the_same_bits(
    finished: Path, corpus: Path, tmp_path: Path
) -> None:
    began = time.monotonic()
    finish(make_run(tmp_path / "undisturbed", corpus))
    whole = time.monotonic() - began
    folder = make_run(tmp_path / "small", corpus)
    random.seed(os.environ.get("PELLUCID_TEST_SEED", "1"))
    kills = 0
    for _ in range(4):
        process = start(folder)
        time.sleep(random.uniform(0.1, 0.8) * whole)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    finish(folder)
    assert kills and identity(folder) == identity(finished)


@pytest.mark.parametrize("step", [1, 6, 13])
def test_stopped_in_the_middle_of_a_step_it_goes_on(
    step: int, finished: Path, corpus: Path, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "small", corpus)
    with pytest.raises(KeyError):
        run(folder, Interrupt(step, KeyError()))
    finish(folder)
    assert identity(folder) == identity(finished)


def test_sigterm_keeps_the_state_of_its_step(finished: Path, corpus: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "small", corpus)

    class Terminate(Terminal):
        def step(self, number: int, loss: float, tokens_per_second: float, lr: float) -> None:
            if number == 7:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(errors.Stopped, match="SIGTERM at step 7"):
        run(folder, Terminate(quiet=True))
    assert 7 in layout.steps_in(folder / "anchors")
    finish(folder)
    assert 7 not in layout.steps_in(folder / "anchors")
    assert identity(folder) == identity(finished)
    kinds = [entry.body["kind"] for entry in log.read(folder / layout.JOURNAL)]
    assert (
        kinds.count("start") == 2 and "stop" in kinds and "resume" in kinds and kinds[-1] == "stage"
    )


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("method", "name"),
    [("step", "SIGINT"), ("keep", "SIGTERM"), ("_write", "SIGHUP"), ("flush", "SIGHUP")],
)
def test_the_state_of_the_step_that_a_signal_stops_at_is_stored(
    method: str, name: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the signal comes: before the step, while its state is kept,
    while its anchor is written."""
    from pellucid.recorder import Recorder

    folder, real, sent = make_run(tmp_path / "small", corpus), getattr(Recorder, method), []

    def signalled(self: Recorder, *arguments: Any, **named: Any) -> Any:
        if not sent and self._step >= 7 - (method == "step"):
            sent.append(os.kill(os.getpid(), getattr(signal, name)))
            time.sleep(0.05)  # The writer's thread sends it, and the first thread hears it.
        return real(self, *arguments, **named)

    class Asked(Terminal):
        def step(self, number: int, loss: float, tokens_per_second: float, lr: float) -> None:
            # So that there is a flush: the second signal comes in it.
            if method == "flush" and number == 7:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Recorder, method, signalled)
    with pytest.raises(errors.Stopped) as stopped:
        run(folder, Asked(quiet=True))
    assert stopped.value.fields["step"] in layout.steps_in(folder / "anchors")
    heard = "SIGTERM" if method == "flush" else name
    assert stopped.value.fields["signal"] == heard
    assert stopped.value.exit_code == 128 + signal.Signals[heard]


def test_a_signal_that_is_ignored_stays_so(corpus: Path, tmp_path: Path) -> None:
    """nohup ignores SIGHUP for the process that it starts."""
    folder = make_run(tmp_path / "small", corpus, ["train.steps=3"])

    class HangUp(Terminal):
        def step(self, number: int, loss: float, tokens_per_second: float, lr: float) -> None:
            os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run(folder, HangUp(quiet=True))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert status(folder)["finished"]


@pytest.mark.slow
def test_a_terminal_that_is_closed_leaves_the_state_stored(corpus: Path, tmp_path: Path) -> None:
    """As when a connection breaks: the process gets SIGHUP, and what it
    writes from then on gets EIO."""
    import pty

    folder = make_run(tmp_path / "small", corpus, ["train.steps=100000", "train.warmup=10"])
    child, terminal = pty.fork()
    if not child:
        os.environ["OMP_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "pellucid", "run", str(folder)])
    while (
        not (folder / layout.LEDGER).is_file() or (folder / layout.LEDGER).stat().st_size < 20_000
    ):
        os.read(terminal, 1 << 16)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + signal.SIGHUP
    entries = [entry.body for entry in log.read(folder / layout.JOURNAL)]
    assert entries[-1]["kind"] == "stop" and entries[-1]["error"] == "Stopped"
    done = LedgerFile(folder).steps_done
    assert (
        layout.steps_in(folder / "anchors")[-1] == done
        and f"SIGHUP at step {done}" in entries[-1]["detail"]
    )


def test_thinning_anchors_and_threads_of_placement_leave_the_head(
    finished: Path, corpus: Path, tmp_path: Path
) -> None:
    folder = make_run(
        tmp_path / "small", corpus, ["placement.anchors={every = 13, powers_of_two = false}"]
    )
    assert identity(finish(folder)) == identity(finished)
    assert layout.steps_in(folder / "anchors") == [0, 13]


def test_a_finished_run_is_not_redone(finished: Path) -> None:
    """Not a byte of a sealed release changes, the journal's neither."""
    before = {path: (finished / path).stat().st_mtime_ns for path in files.walk(finished)}
    for only in (None, "documents", "train"):
        finish(finished, only)
    assert {path: (finished / path).stat().st_mtime_ns for path in files.walk(finished)} == before


def test_every_batch_is_rebuilt_from_the_release(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reached the training step, recorded there, against what the
    release gives, token for token."""
    from pellucid.look.show import Shown
    from pellucid.release.publish import publish
    from pellucid.train import loop

    seen: dict[int, np.ndarray] = {}
    real = loop.training_step

    def recording(state: Any, batch: Any, *rest: Any) -> Any:
        seen[batch.step] = batch.tokens_BS.copy()
        return real(state, batch, *rest)

    monkeypatch.setattr(loop, "training_step", recording)
    folder = finish(make_run(tmp_path / "small", corpus, ["train.steps=40"]))
    publish(folder)
    shown = Shown(folder)
    assert sorted(seen) == list(range(1, 41))
    assert shown.order.rows(40).epochs[-1] >= 1  # More than one epoch is covered.
    for step, tokens in seen.items():
        assert [one["tokens"] for one in shown.step(step)["rows"]] == tokens.tolist()


def test_two_sources_with_weights_and_all_options(tmp_path: Path) -> None:
    from pellucid.release.publish import publish
    from pellucid.release.verify import verify

    first, second = write_corpus(tmp_path / "one", 30), write_corpus(tmp_path / "two", 50, 45)
    settings = [
        "data.sources.one.weight=3",
        "model.attention=within",
        "record.commitment=microbatches",
        "model.tied=false",
        "train.schedule=wsd",
        "train.decay=3",
        "tokenizer.kind=bytes",
    ]
    from pellucid.new import new
    from tests.conftest import SETTINGS

    new(tmp_path / "run", [str(first), str(second)], "1M", [*SETTINGS, *settings])
    folder = finish(tmp_path / "run")
    publish(folder)
    assert verify(folder, lambda what: None).problems == []
    assert {one["source"] for one in status(folder)["validation"][-1]["sources"]} == {"one", "two"}
    pellucid("audit", folder, "--step", 7)


def test_a_source_without_validation_documents_is_passed_over(tmp_path: Path) -> None:
    from pellucid.new import new
    from pellucid.release.verify import verify
    from tests.conftest import SETTINGS

    first, second = write_corpus(tmp_path / "one", 30), write_corpus(tmp_path / "two", 31, 45)
    for number in range(1, 31):
        (second / f"{number:03}.txt").unlink()
    new(
        tmp_path / "run",
        [str(first), str(second)],
        "1M",
        [*SETTINGS, "data.validation_per_10000=900"],
    )
    folder = finish(tmp_path / "run")
    assert [one["source"] for one in status(folder)["validation"][-1]["sources"]] == ["one"]
    assert verify(folder, lambda what: None).ok


def test_a_value_that_is_not_finite_stops_the_run(
    finished: Path, corpus: Path, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "small", corpus, ["train.lr=1e30", "train.warmup=0"])
    with pytest.raises(errors.NotFinite, match="Everything recorded before is intact"):
        finish(folder)
    stopped = status(folder)["steps_done"]
    assert stopped < 13 and not status(folder)["finished"]
    assert all(entry.problem is None for entry in log.read(folder / layout.LEDGER))


def test_a_step_takes_the_state_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU every call copies all of it."""
    from pellucid.store import tensors
    from pellucid.train.state import State

    calls = {"groups": 0, "roots": 0}
    real, roots = State.groups, tensors.state_roots

    def groups(self: State) -> Any:
        calls["groups"] += 1
        return real(self)

    def state_roots(step: int, groups: Any) -> Any:
        calls["roots"] += 1
        return roots(step, groups)

    monkeypatch.setattr(State, "groups", groups)
    monkeypatch.setattr(tensors, "state_roots", state_roots)
    finish(make_run(tmp_path / "small", corpus, ["train.steps=6"]))
    assert calls == {"groups": 7, "roots": 7}


# ---- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["model.safetensors", "record/ledger.jsonl"])
def test_a_release_that_is_damaged_is_not_run_on(gone: str, release: Path) -> None:
    (release / gone).unlink()
    before = {path: (release / path).stat().st_mtime_ns for path in files.walk(release)}
    with pytest.raises(errors.ReleaseSealed, match="pellucid verify"):
        run(release, Terminal(quiet=True))
    assert before == {path: (release / path).stat().st_mtime_ns for path in files.walk(release)}


def test_a_changed_recipe_is_refused_once_begun(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    before = (folder / "recipe.toml").read_bytes()
    with pytest.raises(errors.SettingTooLate, match=r"train\.lr=1"):
        change_recipe(folder, ["train.lr=1"])
    assert (folder / "recipe.toml").read_bytes() == before
    with pytest.raises(errors.ReleaseSealed, match="pellucid publish"):
        change_recipe(folder, ["placement.threads=2"])
    assert (folder / "recipe.toml").read_bytes() == before
    (folder / layout.MANIFEST).unlink()
    change_recipe(folder, ["placement.threads=2"])
    assert b"threads = 2" in (folder / "recipe.toml").read_bytes()
    (folder / "recipe.toml").write_bytes(before.replace(b"beta1 = 0.9", b"beta1 = 0.8"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(errors.RecipeChanged):
        finish(folder)


def test_a_wrong_path_is_refused_before_it_is_written(corpus: Path, tmp_path: Path) -> None:
    folder = finish(make_run(tmp_path / "small", corpus), "documents")
    before = {path: (folder / path).read_bytes() for path in files.walk(folder)}
    for setting in (
        "data.sources.stones.path=/nonexistent",
        f"data.sources.stones.path={tmp_path / 'none'}",
    ):
        with pytest.raises(errors.SourceMissing, match="does not exist"):
            change_recipe(folder, [setting])
    assert {path: (folder / path).read_bytes() for path in files.walk(folder)} == before


def test_a_run_that_has_begun_needs_its_sources_no_more(corpus: Path, tmp_path: Path) -> None:
    """And a recipe that is not the one it began with is refused before anything is made from it."""
    texts = Path(shutil.copytree(corpus, tmp_path / "stones"))
    folder = make_run(tmp_path / "small", texts)
    with pytest.raises(KeyError):
        run(folder, Interrupt(3, KeyError()))
    shutil.rmtree(texts)
    recipe = (folder / "recipe.toml").read_bytes()
    before = {path: (folder / "data" / path).read_bytes() for path in files.walk(folder / "data")}
    (folder / "recipe.toml").write_bytes(
        recipe.replace(b"= 1500", b"= 1400").replace(b"warmup = 2", b"warmup = 3")
    )
    with pytest.raises(errors.RecipeChanged):
        finish(folder)
    assert {
        path: (folder / "data" / path).read_bytes() for path in files.walk(folder / "data")
    } == before
    (folder / "recipe.toml").write_bytes(recipe)
    assert status(finish(folder))["finished"]


def test_another_stack_is_named_on_native_arithmetic(corpus: Path, tmp_path: Path) -> None:
    folder = finish(
        make_run(tmp_path / "run", corpus, ["train.arithmetic=native", "train.steps=3"])
    )
    lines = (folder / layout.LEDGER).read_bytes().splitlines(keepends=True)
    assert b'"arithmetic":"native 1"' in lines[0]
    (folder / layout.LEDGER).write_bytes(
        lines[0].replace(b'"torch":"2.', b'"torch":"1.') + b"".join(lines[1:])
    )
    done = pellucid("audit", folder, "--step", 3, check=3)
    assert "StackDiffers" in done.stderr and "torch: 1." in done.stderr


def test_no_run_and_busy_and_unknown_stage(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.RunMissing, match="pellucid new"):
        finish(tmp_path)
    folder = make_run(tmp_path / "run", corpus)
    with files.locked(folder), pytest.raises(errors.RunBusy):
        finish(folder)
    with pytest.raises(errors.StageUnknown, match="documents, tokenizer, shards, index, train"):
        finish(folder, "trian")
    with pytest.raises(errors.StageNotReady, match="Make everything that is missing: pellucid run"):
        finish(folder, "train")


def test_a_corpus_too_small_fails_before_training(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", 30, 4)
    folder = make_run(
        tmp_path / "run", corpus, ["model.context=512", "train.batch=64", "train.microbatch=64"]
    )
    with pytest.raises(errors.CorpusTooSmall):
        finish(folder)
    assert not (folder / layout.LEDGER).exists()


def test_a_folder_that_holds_something_is_not_taken(
    finished: Path, corpus: Path, tmp_path: Path
) -> None:
    from pellucid.new import new

    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "file").touch()
    for folder, found in ((finished, "a run"), (tmp_path / "x", "other files")):
        with pytest.raises(errors.FolderTaken, match=found):
            new(folder, [str(corpus)], "1M", [])


def test_another_run_s_data_under_this_ledger_is_refused(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    text = (folder / layout.DATA_MANIFEST).read_text()
    data = files.read_json(folder / layout.DATA_MANIFEST)["root"]
    (folder / layout.DATA_MANIFEST).write_text(text.replace(data, "00" * 32))
    assert "DataDiffers" in pellucid("audit", folder, "--step", 3, check=4).stderr


def test_the_head_is_compared_where_recipe_and_texts_are_the_readmes(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = LedgerFile(finished)
    assert "another recipe" in demo.reproduced(finished)
    monkeypatch.setattr(demo, "RECIPE", ledger.genesis["recipe"])
    assert "other texts" in demo.reproduced(finished)
    monkeypatch.setattr(demo, "DATA_ROOT", ledger.genesis["data"])
    with pytest.raises(errors.HeadDiffers, match=ledger.head):
        demo.reproduced(finished)
    monkeypatch.setattr(demo, "HEAD", ledger.head)
    assert demo.reproduced(finished).endswith("= README: your machine made the same bits")


def test_the_head_of_a_small_run_is_golden(finished: Path) -> None:
    """From texts to the last weights, on portable arithmetic. Another head is
    another arithmetic or format."""
    assert (
        LedgerFile(finished).head
        == "b560c816118055ace6e3e76f855501edfc7f70e5a502fe9af9e67e12b860ea10"
    )


def test_the_demo_compares_on_the_texts_that_validation_covers(finished: Path) -> None:
    *_, last = LedgerFile(finished).of_kind("validation")
    size = sum(int(one["bytes"]) for one in last["sources"])
    assert demo.compare(finished).bytes == size < 5000
