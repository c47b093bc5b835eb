"""Tasks of lm-eval on this disk, of every kind: YAML files with their data as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import WORDS, prose

DOCUMENTS = 12


def sentences(number: int) -> list[str]:
    return [f"{text}." for text in prose(number, 40).split(". ") if text.strip()]


def words(number: int, count: int) -> list[str]:
    return prose(number, count).replace(".", "").split()[:count]


def choice_rows(first: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "question": " ".join(words(number, 9)),
            "choices": [" ".join(words(number * 10 + place, 1 + place)) for place in range(4)],
            "answer": number % 4,
        }
        for number in range(first, first + DOCUMENTS)
    ]


def write(folder: Path, name: str, rows: dict[str, Sequence[Any]], **config: Any) -> Path:
    """A task with a file of data for each split; returns its YAML file."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for split, own in rows.items():
        files[split] = str(folder / f"{name}.{split}.jsonl")
        Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in own))
    body = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "test_split": "test",
        **config,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(body))
    return path


def means(*names: str) -> list[dict[str, Any]]:
    return [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in names]


def choices(folder: Path, name: str = "choices", **config: Any) -> Path:
    rows = config.pop("rows", {"test": choice_rows(), "train": choice_rows(100)})
    body = {
        "output_type": "multiple_choice",
        "training_split": "train",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": means("acc", "acc_norm"),
        **config,
    }
    return write(folder, name, rows, **{key: body[key] for key in body if body[key] is not None})


def last_word(folder: Path) -> Path:
    return write(
        folder,
        "last_word",
        {"test": [{"text": " ".join(words(number, 12))} for number in range(DOCUMENTS)]},
        output_type="loglikelihood",
        doc_to_text="{{text.split(' ')[:-1]|join(' ')}}",
        doc_to_target="{{' ' + text.split(' ')[-1]}}",
        metric_list=[
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            *means("acc"),
        ],
    )


def pages(folder: Path) -> Path:
    return write(
        folder,
        "pages",
        {"test": [{"page": prose(number, 60).strip()} for number in range(DOCUMENTS)]},
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{page}}",
        metric_list=[
            {"metric": "word_perplexity"},
            {"metric": "byte_perplexity"},
            {"metric": "bits_per_byte"},
        ],
    )


def completions(folder: Path, name: str = "completions", **config: Any) -> Path:
    rows = [
        {"text": " ".join(words(number, 8)), "next": WORDS[number % 7]}
        for number in range(DOCUMENTS)
    ]
    body = {
        "output_type": "generate_until",
        "doc_to_text": "{{text}}",
        "doc_to_target": "{{next}}",
        "target_delimiter": "",
        "generation_kwargs": {"until": [".", "\n"], "max_gen_toks": 6, "do_sample": False},
        "metric_list": means("exact_match"),
        **config,
    }
    return write(folder, name, {"test": rows}, **body)


def every_kind(folder: Path) -> list[Path]:
    return [choices(folder), last_word(folder), pages(folder), completions(folder)]
