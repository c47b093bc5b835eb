"""Tasks of lm-eval asked of one checkpoint by Pellucid and by lm-eval's own Hugging Face model:
equal answers, and the time that they take.

    python bench/harness.py [FOLDER] [--examples 320] [--repeats 3] [--only equality|speed]

Makes a run with the preset 30M (context 512) over the reference of the Python language in FOLDER, a
few steps long, exports its checkpoint, and writes five tasks of texts from there. The peer, HFLM,
reads the export in float32. Both have two threads, and both begin with the model loaded and the
data read once. Their turns alternate, each in a process of its own. The peer has the batch size
that was fastest over a task's first examples. Exits with 1 if a bar is missed. Needs
requirements/bench.txt."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import logging
import math
import os
import pydoc_data.topics
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import measuring
import yaml

THREADS, CONTEXT, STEPS = 2, 512, 12
BATCHES = ("1", "8", "32", "64", "auto")
FIRST = 64  # Examples by which the peer's batch size is chosen.
CLOSE = 1e-4  # Of two log-likelihoods.
EXCLUDED = 0.005  # Of the decisions, as too close to call.
NAMES = ("choices", "completions", "last_word", "letters", "pages")
BARS = {"choices": 2.0, "letters": 2.0, "pages": 1.3, "completions": 1.3}
GEOMETRIC = 1.6
SETTINGS = (
    f"train.steps={STEPS}",
    "train.batch=4",
    "train.microbatch=4",
    "train.warmup=2",
    "data.sources.texts.licence=PSF-2.0",
    f"placement.threads={THREADS}",
)
Answers = list[Any]  # Of a task: of each document its log-likelihoods, or a context and a text.
Ask = Callable[[Path], Answers]


def make(folder: Path, examples: int) -> None:
    """A run, its export and the tasks; what is there already is kept."""
    texts, run, export = folder / "texts", folder / "run", folder / "export"
    texts.mkdir(parents=True, exist_ok=True)
    for name, text in sorted(pydoc_data.topics.topics.items()):
        (texts / f"{name}.txt").write_text(text)
    if not (run / "recipe.toml").exists():
        settings = [word for setting in SETTINGS for word in ("--set", setting)]
        pellucid("new", run, "--data", texts, "--preset", "30M", *settings)
    pellucid("run", run)
    if not export.exists():
        pellucid("export", run, "--as", "hf", "--to", export)
    (folder / "tasks").mkdir(exist_ok=True)
    for name, (rows, config) in tasks(examples).items():
        write_task(folder / "tasks", name, rows, config)


def pellucid(*words: object) -> None:
    command = [sys.executable, "-m", "pellucid", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def write_task(folder: Path, name: str, rows: list[Any], config: dict[str, Any]) -> None:
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {"data_files": {"test": str(data)}}
    body = {"task": name, "dataset_path": "json", "dataset_kwargs": files, "test_split": "test"}
    (folder / f"{name}.yaml").write_text(
        yaml.safe_dump(body | {"doc_to_text": "{{text}}"} | config)
    )


def tasks(examples: int) -> dict[str, tuple[list[Any], dict[str, Any]]]:
    """Five kinds, by name: their documents and their configuration."""
    chance = random.Random(1)
    words = " ".join(pydoc_data.topics.topics.values()).split()

    def text(length: int) -> str:
        first = chance.randrange(len(words) - length)
        return " ".join(words[first : first + length])

    def choices(before: int, after: int) -> Iterator[dict[str, Any]]:
        for _ in range(examples):
            chosen = [text(after) for _ in range(4)]
            yield {"text": text(before), "choices": chosen, "answer": chance.randrange(4)}

    mean = {"aggregation": "mean", "higher_is_better": True}
    accuracy = [{"metric": "acc", **mean}, {"metric": "acc_norm", **mean}]
    choice = {"output_type": "multiple_choice", "doc_to_target": "answer"}
    letters = "".join(f"{letter}. {{{{choices[{n}]}}}}\n" for n, letter in enumerate("ABCD"))
    return {
        # Choices of several words behind one context, as in HellaSwag.
        "choices": (
            [*choices(60, 12)],
            {**choice, "doc_to_choice": "choices", "metric_list": accuracy},
        ),
        # Choices of one token behind shots, as in MMLU.
        "letters": (
            [*choices(20, 4)],
            {
                **choice,
                "doc_to_text": "{{text}}\n" + letters + "Answer:",
                "doc_to_choice": ["A", "B", "C", "D"],
                "metric_list": accuracy[:1],
                "num_fewshot": 3,
                "fewshot_split": "test",
                "fewshot_config": {"sampler": "first_n"},
            },
        ),
        # The last word, as in LAMBADA.
        "last_word": (
            [{"text": text(70), "end": text(1)} for _ in range(examples)],
            {
                "output_type": "loglikelihood",
                "doc_to_target": "{{' ' + end}}",
                "metric_list": [{"metric": "perplexity"}, {"metric": "acc", **mean}],
            },
        ),
        "pages": (
            [{"text": text(chance.randrange(100, 500))} for _ in range(examples)],
            {
                "output_type": "loglikelihood_rolling",
                "doc_to_text": "",
                "doc_to_target": "{{text}}",
                "metric_list": [{"metric": "bits_per_byte"}],
            },
        ),
        "completions": (
            [{"text": text(60), "end": text(5)} for _ in range(examples)],
            {
                "output_type": "generate_until",
                "doc_to_target": "{{end}}",
                "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 32, "do_sample": False},
                "metric_list": [{"metric": "exact_match", **mean}],
            },
        ),
    }


def side(folder: Path, batches: dict[str, str] | None, limit: int | None = None) -> dict[str, Any]:
    """The seconds and answers of Pellucid, or of the peer with a batch size for each task: by this
    script in another process."""
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        command = [sys.executable, __file__, str(folder), "--side", json.dumps([batches, limit])]
        subprocess.run([*command, "--to", result.name], check=True)
        return json.loads(Path(result.name).read_text())


def answered(folder: Path, batches: dict[str, str] | None, limit: int | None) -> dict[str, Any]:
    from pellucid.evaluate.harness import Wanted, prepare

    paths = sorted((folder / "tasks").glob("*.yaml"))
    prepare([Wanted(str(path)) for path in paths])  # The data is read once, in nobody's time.
    logging.disable(logging.WARNING)
    said: dict[str, Any] = {}
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # Progress.
        own = None if batches else ours(folder)
        for path in paths:
            ask = own or peer(folder, batches[path.stem] if batches else "", limit)
            started = time.perf_counter()
            answers = ask(path)
            said[path.stem] = {"seconds": time.perf_counter() - started, "answers": answers}
    return said


def ours(folder: Path) -> Ask:
    from pellucid import operations
    from pellucid.data.tokenizer import Tokenizer
    from pellucid.evaluate.asking import answers
    from pellucid.evaluate.harness import Wanted, prepare
    from pellucid.evaluate.scoring import Scorer
    from pellucid.inputs import Inputs
    from pellucid.recipe import load
    from pellucid.record.requests import Generate, Likelihoods, Text
    from pellucid.replay.materialise import materialise

    inputs = Inputs.load(folder / "run", load(folder / "run"))
    state = materialise(inputs, STEPS, lambda done, total: None)
    scorer = Scorer.of(state, Tokenizer.load(folder / "run"), inputs.recipe)
    operations.of("portable", "cpu").configure("cpu", THREADS)

    def ask(path: Path) -> Answers:
        (task,) = prepare([Wanted(str(path))])
        given = [*answers(scorer, (example.request for example in task.examples))]
        task.rated(given)
        said = []
        for example, answer in zip(task.examples, given, strict=True):
            if isinstance(answer, Text):
                assert isinstance(example.request, Generate)
                said.append([example.request.context, answer.text])
            else:
                assert isinstance(answer, Likelihoods)
                said.append([*zip(answer.nats, answer.greedy, strict=True)])
        return said

    return ask


def peer(folder: Path, batch: str, limit: int | None) -> Ask:
    """By its batch size, with "exact" behind it for sums in float64: the default rounds the sum
    over a window of 512 tokens to float32, which moves it by more than CLOSE."""
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    torch.set_num_threads(THREADS)
    # Their signatures are hidden by decorators.
    batch, _, exact = batch.partition(" ")
    softmax = "float64" if exact else None
    make_model: Any = HFLM
    evaluate: Any = lm_eval.simple_evaluate
    model = make_model(
        str(folder / "export"),
        device="cpu",
        dtype="float32",
        batch_size=batch if batch == "auto" else int(batch),
        max_length=CONTEXT,
        softmax_dtype=softmax,
    )

    def ask(path: Path) -> Answers:
        manager = TaskManager(include_defaults=False)
        with contextlib.redirect_stdout(sys.stderr):
            made = evaluate(
                model, tasks=[str(path)], task_manager=manager, bootstrap_iters=0, limit=limit
            )
        said = []
        for sample in made["samples"][path.stem]:
            responses = [response for (response,) in sample["resps"]]
            if isinstance(responses[0], str):
                said.append([sample["arguments"][0][0], responses[0]])
            elif isinstance(responses[0], float):  # A whole text: no word on greedy.
                said.append([(responses[0], None)])
            else:
                said.append(responses)
        return said

    return ask


def equality(folder: Path) -> bool:
    print(f"answers beside those of lm-eval's HFLM, float32, {THREADS} threads", flush=True)
    own, other = side(folder, None), side(folder, dict.fromkeys(NAMES, "8 exact"))
    equal = [compared(folder, name, own, other) for name in own]
    return all(equal)


def compared(folder: Path, name: str, own: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether all answers to a task are equal, as far as arithmetic decides them."""
    pairs = [*zip(own[name]["answers"], other[name]["answers"], strict=True)]
    largest, close, unequal = 0.0, 0, 0
    for a, b in pairs:
        if isinstance(a[0], str):
            differs = a != b
            undecided = differs and gap(folder / "export", a, b) <= CLOSE
        else:
            nats = [(x[0], y[0]) for x, y in zip(a, b, strict=True)]
            largest = max(largest, *(abs(x - y) for x, y in nats))
            differs, undecided = decision(a) != decision(b), margin(a) <= CLOSE
        close += undecided
        unequal += differs and not undecided
    difference = "no likelihoods" if name == "completions" else f"largest difference {largest:.1e}"
    print(
        f"  {name:12} {len(pairs)} documents: {difference}, decisions unequal {unequal}, "
        f"too close to call {close}",
        flush=True,
    )
    return largest <= CLOSE and not unequal and close <= EXCLUDED * len(pairs)


def decision(scores: Sequence[Sequence[Any]]) -> int | bool | None:
    """The choice that wins; of a single text, whether every token of it is the likeliest, which the
    peer does not say of whole texts."""
    nats = [score[0] for score in scores]
    single = len(scores) == 1
    return (scores[0][1] or None) if single else nats.index(max(nats))


def margin(scores: Sequence[Sequence[Any]]) -> float:
    nats = sorted((score[0] for score in scores), reverse=True)
    return nats[0] - nats[1] if len(nats) > 1 else math.inf


def gap(export: Path, a: Sequence[str], b: Sequence[str]) -> float:
    """By how much the likeliest token leads where two texts part."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(export)
    model = transformers.AutoModelForCausalLM.from_pretrained(export, dtype=torch.float32)
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a[1], b[1], strict=False))
    read = a[0] + "".join(letter for letter, _ in pairs)
    ids = tokenizer(read, return_tensors="pt").input_ids[:, -CONTEXT:]
    with torch.no_grad():
        first, second = model(ids).logits[0, -1].topk(2).values.tolist()
    return first - second


def speed(folder: Path, repeats: int) -> bool:
    others = measuring.Others()
    tried = {batch: side(folder, dict.fromkeys(NAMES, batch), FIRST) for batch in BATCHES}
    best = {name: min(BATCHES, key=lambda b: tried[b][name]["seconds"]) for name in NAMES}
    own, their = ({name: list[float]() for name in NAMES} for _ in range(2))
    for _ in range(repeats):
        for seconds, batches in ((own, None), (their, best)):
            for name, one in side(folder, batches).items():
                seconds[name].append(one["seconds"])
    print(f"seconds from the loaded model to results, {THREADS} threads, context {CONTEXT}")
    ratios = {}
    for name in NAMES:
        each = [b / a for a, b in zip(own[name], their[name], strict=True)]
        ratios[name] = statistics.median(each)
        print(
            f"  {name:12} Pellucid {statistics.median(own[name]):7.2f}   HFLM "
            f"{statistics.median(their[name]):7.2f} (batch {best[name]})   ratio "
            f"{measuring.with_interval(each, '.2f')}"
        )
    mean = statistics.geometric_mean(ratios.values())
    print(f"  geometric mean of the ratios {mean:.2f}")
    print(others.line())
    return mean >= GEOMETRIC and all(ratios[name] >= bar for name, bar in BARS.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--examples", type=int, default=320)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("equality", "speed"))
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        said = answered(arguments.folder, *json.loads(arguments.side))
        arguments.to.write_text(json.dumps(said))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = (arguments.folder or Path(made)).absolute()
        make(folder, arguments.examples)
        equal = arguments.only == "speed" or equality(folder)
        fast = arguments.only == "equality" or speed(folder, arguments.repeats)
    sys.exit(not (equal and fast))


if __name__ == "__main__":
    main()
