"""Tasks of lm-eval: the requests, ratings and shots that lm-eval itself has, and named errors."""

from __future__ import annotations

import hashlib
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pellucid.errors import (
    AnswerNotFinite,
    HarnessMissing,
    TaskInvalid,
    TaskNameTaken,
    TaskUnfit,
    TaskUnknown,
)
from pellucid.evaluate import harness
from pellucid.evaluate.harness import HarnessTask, Wanted, prepare
from pellucid.record import evaluations
from pellucid.record.requests import Answer, Choices, Generate, Likelihoods, Request, Rolling, Text
from tests.evaluate import local_tasks

pytestmark = pytest.mark.usefixtures("own_data_sets")


def nats_of(context: str, text: str) -> tuple[float, bool]:
    """A log-likelihood that follows from the text alone."""
    drawn = hashlib.sha256(f"{context}\0{text}".encode()).digest()
    return -(int.from_bytes(drawn[:4]) % 100_000) / 1000, drawn[4] % 2 == 0


def text_of(context: str) -> str:
    drawn = hashlib.sha256(context.encode()).digest()
    return local_tasks.WORDS[drawn[0] % 7]


def answer(request: Request) -> Answer:
    if isinstance(request, Generate):
        return Text(text_of(request.context))
    if isinstance(request, Rolling):
        nats, greedy = nats_of("", request.text)
        return Likelihoods((nats,), (greedy,))
    nats, greedy = zip(*(nats_of(request.context, text) for text in request.choices), strict=True)
    return Likelihoods(nats, greedy)


def one(path: Path, shots: int | None = None, **named: Any) -> HarnessTask:
    (task,) = prepare([Wanted(str(path), shots)], **named)
    return task


def answers_to(task: HarnessTask) -> list[Answer]:
    return [answer(example.request) for example in task.examples]


def theirs(path: Path, shots: int | None = None) -> dict[str, Any]:
    """What lm-eval makes of a task and of the same answers, by its own evaluator."""
    import lm_eval
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    class Model(LM):
        def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
            return [nats_of(*request.args) for request in requests]

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[Any]:
            return [nats_of("", *request.args)[0] for request in requests]

        def generate_until(self, requests: Sequence[Any]) -> list[Any]:
            return [text_of(request.args[0]) for request in requests]

    manager = TaskManager(include_defaults=False)
    results = lm_eval.simple_evaluate(
        Model(), tasks=[str(path)], num_fewshot=shots, task_manager=manager, bootstrap_iters=0
    )
    assert results is not None
    return dict(results)


KINDS: dict[str, tuple[Callable[[Path], Path], type, str]] = {
    "choices": (local_tasks.choices, Choices, "accuracy"),
    "last_word": (local_tasks.last_word, Choices, "likelihood"),
    "pages": (local_tasks.pages, Rolling, "bits_per_byte"),
    "completions": (local_tasks.completions, Generate, "exact_match"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_has_the_numbers_that_lm_eval_has(tmp_path: Path, kind: str) -> None:
    write, request, metric = KINDS[kind]
    path = write(tmp_path)
    shots = 3 if kind == "choices" else None
    task = one(path, shots)
    assert len(task.examples) == local_tasks.DOCUMENTS
    assert {type(example.request) for example in task.examples} == {request}
    measured, numbers = task.rated(answers_to(task))
    assert measured == metric
    samples = theirs(path, shots)["samples"][kind]
    names = {"acc", "acc_norm", "exact_match"} & samples[0].keys()
    for sample, own in zip(samples, numbers, strict=True):
        assert {name: own[name] for name in names} == {name: sample[name] for name in names}
        if kind == "last_word":
            assert own["nats"] == sample["perplexity"]
        if kind == "pages":
            assert (own["nats"], own["bytes"]) == sample["byte_perplexity"]
            assert (own["nats"], own["words"]) == sample["word_perplexity"]
    contexts = [sample["arguments"][0][0] for sample in samples]
    own = [next(iter(vars(example.request).values())) for example in task.examples]
    assert own == contexts


def test_lines_of_a_task_are_lines_of_an_evaluation(tmp_path: Path) -> None:
    for path in local_tasks.every_kind(tmp_path):
        task = one(path)
        given = answers_to(task)
        metric, numbers = task.rated(given)
        examples = evaluations.Examples(metric)
        for row in zip(task.examples, given, numbers, strict=True):
            assert examples.take(evaluations.line_of(*row)) == ""


def test_a_folder_holds_several_tasks(tmp_path: Path) -> None:
    local_tasks.every_kind(tmp_path)
    tasks = prepare([Wanted(f"{tmp_path}{os.sep}")], limit=2)
    assert sorted(task.name for task in tasks) == sorted(KINDS)
    assert {len(task.examples) for task in tasks} == {2}


def test_two_models_are_rated_by_their_own_answers(tmp_path: Path) -> None:
    task = one(local_tasks.choices(tmp_path))
    given = answers_to(task)
    first = task.rated(given)
    right = [
        Likelihoods(tuple(-1.0 - (place != e.target) for place in range(4)), (False,) * 4)
        for e in task.examples
    ]
    assert all(numbers["acc"] == 1.0 for numbers in task.rated(right)[1])
    assert task.rated(given) == first


def test_the_content_follows_the_data_and_the_task_but_no_path(tmp_path: Path) -> None:
    def content(folder: str, **config: Any) -> object:
        return one(local_tasks.choices(tmp_path / folder, **config)).settings["content"]

    first = content("first")
    assert content("second") == first
    rows = local_tasks.choice_rows()
    rows[-1]["answer"] = (rows[-1]["answer"] + 1) % 4
    assert content("data", rows={"test": rows, "train": rows}) != first
    assert content("template", doc_to_text="{{question}} =") != first
    assert content("metrics", metric_list=[{"metric": "acc"}]) != first


def test_a_question_is_no_shot_of_its_own(tmp_path: Path) -> None:
    """Without fewshot_split and with nothing but a test split, lm-eval draws from what it asks."""
    rows = {"test": local_tasks.choice_rows()[:4]}
    path = local_tasks.choices(tmp_path, rows=rows, training_split=None, num_fewshot=3)

    def held(contexts: Sequence[str]) -> int:
        """How many contexts hold their own question twice."""
        lines = [row["question"] for row in rows["test"]]
        return sum(
            context.count(f"Question: {line}\n") > 1
            for context, line in zip(contexts, lines, strict=True)
        )

    alone = theirs(path)["samples"]["choices"]
    leaking = held([sample["arguments"][0][0] for sample in alone])
    assert leaking > 0
    task = one(path)
    requests = [example.request for example in task.examples]
    assert held([request.context for request in requests if isinstance(request, Choices)]) == 0
    assert int(task.settings["shots_replaced"] or 0) > 0


def test_without_a_leak_shots_are_those_of_lm_eval(tmp_path: Path) -> None:
    task = one(local_tasks.choices(tmp_path, num_fewshot=5))
    assert (task.settings["num_fewshot"], task.settings["shots_replaced"]) == (5, 0)
    again = one(local_tasks.choices(tmp_path, num_fewshot=5), seed=2)
    assert again.examples != task.examples


def test_more_shots_than_documents(tmp_path: Path) -> None:
    with pytest.raises(TaskUnfit, match="too few documents for 13 shots"):
        one(local_tasks.choices(tmp_path), shots=13)


def test_zero_shots_of_a_task_stay(tmp_path: Path) -> None:
    task = one(local_tasks.choices(tmp_path, num_fewshot=0), shots=4)
    assert task.settings["num_fewshot"] == 0


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_likelihood_that_is_no_number_is_not_rated(tmp_path: Path, value: float) -> None:
    """lm-eval counts it as the first choice, which may be the right one."""
    task = one(local_tasks.choices(tmp_path))
    given = answers_to(task)
    given[5] = Likelihoods((value, -1.0, -1.0, -1.0), (False,) * 4)
    with pytest.raises(AnswerNotFinite, match="Task choices, document 5: the log-likelihood"):
        task.rated(given)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"generation_kwargs": {"do_sample": True, "until": ["."]}}, "it samples texts"),
        ({"generation_kwargs": {"num_beams": 4, "until": ["."]}}, "has num_beams, and only"),
        (
            {"generation_kwargs": {"untill": ["."], "max_gen_tokens": 5}},
            "generation_kwargs has max_gen_tokens, untill, and only these keys are known here: "
            "do_sample, max_gen_toks, temperature, top_p, until",
        ),
        ({"repeats": 3}, "it asks everything 3 times"),
        ({"generation_kwargs": {"max_gen_toks": 5000, "until": ["."]}}, "document 0 asks for"),
        ({"unsafe_code": True}, "to run what a model wrote"),
        ({"metric_list": [{"metric": "bleu"}]}, "bleu gives no number for each example"),
    ],
)
def test_what_cannot_be_asked(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TaskUnfit, match=f"task completions cannot be asked: .*{words}"):
        one(local_tasks.completions(tmp_path, **changes))


def test_an_empty_choice(tmp_path: Path) -> None:
    rows = local_tasks.choice_rows()
    rows[3]["choices"][1] = ""
    with pytest.raises(TaskUnfit, match="document 3 asks for nothing"):
        one(local_tasks.choices(tmp_path, rows={"test": rows, "train": rows}, target_delimiter=""))


def test_filters_name_their_numbers(tmp_path: Path) -> None:
    filters = [
        {"name": "first", "filter": [{"function": "take_first"}]},
        {
            "name": "letters",
            "filter": [
                {"function": "regex", "regex_pattern": "([a-z]+)"},
                {"function": "take_first"},
            ],
        },
    ]
    task = one(local_tasks.completions(tmp_path, filter_list=filters))
    metric, numbers = task.rated(answers_to(task))
    assert metric == "measured"
    assert {*numbers[0]} == {"exact_match,first", "exact_match,letters"}


def test_a_rating_of_the_task_itself_is_measured(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def rate(doc, results):\n    return {'length': len(results[0]), 'words': ['x']}\n"
    )
    path = local_tasks.completions(tmp_path, metric_list=local_tasks.means("length"))
    path.write_text(path.read_text() + "process_results: !function own.rate\n")
    task = one(path)
    metric, numbers = task.rated(answers_to(task))
    assert metric == "measured"
    assert [row["length"] for row in numbers] == [
        len(text_of(e.request.context)) for e in task.examples if isinstance(e.request, Generate)
    ]
    assert task.settings["unrated"] == "words"
    (tmp_path / "own.py").write_text("def rate(doc, results):\n    return {'length': 1.0}\n")
    assert one(path).settings["content"] != task.settings["content"]


@pytest.mark.parametrize("wrong", ["max_gen_toks: many", "max_gen_toks: .inf", "until: 5"])
def test_options_of_texts_that_make_no_sense_are_named(tmp_path: Path, wrong: str) -> None:
    path = local_tasks.completions(tmp_path)
    config = yaml.safe_load(path.read_text())
    config["generation_kwargs"] = yaml.safe_load(wrong)
    path.write_text(yaml.safe_dump(config))
    with pytest.raises((TaskInvalid, TaskUnfit), match="completions"):
        one(path)


def test_a_rating_that_fails_does_so_before_a_model_is_asked(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def rate(doc, results):\n    raise ValueError('no such')\n")
    path = local_tasks.completions(tmp_path)
    path.write_text(path.read_text() + "process_results: !function own.rate\n")
    with pytest.raises(TaskInvalid, match="document 0 cannot be rated: ValueError: no such"):
        one(path)


def test_contexts_of_one_document_are_requests_of_one_cluster(tmp_path: Path) -> None:
    """As in Winogrande, where the choices stand in the context."""
    rows = [
        {"pair": [f"{word} a", f"{word} b"], "end": "of it", "answer": number % 2}
        for number, word in enumerate(local_tasks.WORDS)
    ]
    path = local_tasks.choices(
        tmp_path,
        rows={"test": rows},
        training_split=None,
        doc_to_text="answer",
        doc_to_choice="pair",
        doc_to_target="end",
        metric_list=local_tasks.means("acc"),
    )
    task = one(path)
    assert [example.name for example in task.examples[:4]] == ["0.0", "0.1", "1.0", "1.1"]
    assert [example.cluster for example in task.examples[:4]] == ["0", "0", "1", "1"]
    metric, numbers = task.rated(answers_to(task))
    samples = theirs(path)["samples"]["choices"]
    assert metric == "measured"
    assert [row["acc"] for row in numbers[::2]] == [sample["acc"] for sample in samples]
    assert numbers[::2] == numbers[1::2]


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = local_tasks.choices(tmp_path)
    with pytest.raises(TaskInvalid, match=re.escape(f"{path}x.yaml")):
        prepare([Wanted(f"{path}x.yaml")])
    version, manager = harness._library(offline=False)

    def small(include_defaults: bool) -> Any:
        return manager(include_path=tmp_path, include_defaults=False)

    monkeypatch.setattr(harness, "_library", lambda offline: (version, small))
    with pytest.raises(TaskUnknown, match=re.escape("choces (near: choices)")):
        prepare([Wanted("choices"), Wanted("choces")])
    with pytest.raises(TaskUnknown, match=re.escape("(near: brackets)")):
        prepare([Wanted("bracket")], ours=["brackets"])
    with pytest.raises(TaskUnknown, match=re.escape("(near: llm360)")):
        prepare([Wanted("llm36")])
    assert [task.name for task in prepare([Wanted("choices")])] == ["choices"]


def test_no_task_has_the_name_of_a_built_in_one(tmp_path: Path) -> None:
    """By its file, or in a folder of them."""
    path = local_tasks.choices(tmp_path)
    path.write_text(path.read_text().replace("task: choices", "task: brackets"))
    for place in (str(path), f"{tmp_path}/"):
        with pytest.raises(TaskNameTaken, match="names its task brackets"):
            prepare([Wanted(place)], ours=["brackets"])
    assert [task.name for task in prepare([Wanted(str(path))])] == ["brackets"]


def test_data_that_is_missing_is_named(tmp_path: Path) -> None:
    """The libraries read their settings when they are loaded: a process of its own."""
    missing = local_tasks.choices(tmp_path, name="missing", dataset_path="no-one/nothing-here")
    missing.write_text(re.sub(r"dataset_kwargs:\n(  .*\n)+", "", missing.read_text()))
    here = local_tasks.last_word(tmp_path)
    code = (
        "import sys\nfrom pellucid.evaluate.harness import Wanted, prepare\n"
        "prepare([Wanted(name) for name in sys.argv[1:]], offline=True)\n"
    )
    command = [sys.executable, "-c", code, str(here), str(missing)]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    (message,) = re.findall("TaskDataMissing: (.*)", done.stderr)
    assert f"this machine: {missing} (" in message and "no-one/nothing-here" in message
    assert str(here) not in message


def test_a_revision_is_a_setting(tmp_path: Path) -> None:
    path = local_tasks.choices(tmp_path)
    path.write_text(path.read_text().replace("data_files:", "revision: abc\n  data_files:"))
    assert one(path).settings["revision"] == "abc"


def test_without_lm_eval_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(HarnessMissing, match=re.escape('pip install "pellucid[evaluate]"')):
        prepare([Wanted("arc_easy")])


def test_missing_and_empty_data_of_a_file_are_named(tmp_path: Path) -> None:
    path = local_tasks.choices(tmp_path)
    data = tmp_path / "choices.test.jsonl"
    data.write_bytes(b"")
    with pytest.raises(TaskInvalid, match="its data has no document"):
        one(path)
    data.unlink()
    with pytest.raises(TaskInvalid, match="Unable to find"):
        one(path)
    path.unlink()
    with pytest.raises(TaskInvalid, match="no such file"):
        one(path)


@pytest.mark.parametrize("text", ["{}\n", "\n{}", "  {}\n\n", "{}"])
def test_texts_with_white_space_at_their_ends_are_rated_like_others(
    tmp_path: Path, text: str
) -> None:
    rows = {"test": [{"page": text.format(page)} for page in ("a b c", "some more of it")]}
    body = {"output_type": "loglikelihood_rolling", "doc_to_text": ""}
    metric_list = [{"metric": name} for name in ("word_perplexity", "bits_per_byte")]
    task = one(
        local_tasks.write(
            tmp_path, "pages", rows, **body, doc_to_target="page", metric_list=metric_list
        )
    )
    assert [example.request for example in task.examples] == [
        Rolling(r["page"]) for r in rows["test"]
    ]
    metric, numbers = task.rated([Likelihoods((-9.0,), (False,))] * 2)
    assert metric == "bits_per_byte"
    assert [(one["bytes"], one["words"]) for one in numbers] == [
        (len(row["page"]), len(row["page"].split())) for row in rows["test"]
    ]
