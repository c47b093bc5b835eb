#!/usr/bin/env bash
# lm-eval 0.4.13: with fewshot_split set to the split that is scored, a question and its answer
# stand among its own shots.
#
# Without fewshot_split lm-eval warns and goes by a rule, so a reader would guess that naming the
# split is the safe way: the question is then left out of its shots. It is left out only if the
# split has the name of test_split. Many tasks have no test_split and score validation_split. There
# the names "validation" and None differ, and nothing is left out. Without fewshot_split None equals
# None, and the question is left out: the task that says less is the sound one.
#
# Seen: of 6 questions with 4 shots each, 4 hold their own answer with fewshot_split: validation,
# and 0 without it.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check lm_eval==0.4.13
HF_HOME="$place/home" "$place/env/bin/python" - "$place" <<'PYTHON'
import json, logging, sys
from pathlib import Path

import lm_eval
import yaml
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

place = Path(sys.argv[1])
rows = [{"question": f"question {n}", "answer": n % 3} for n in range(6)]
(place / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
logging.disable(logging.WARNING)


class Model(LM):
    def loglikelihood(self, requests):
        return [(-1.0, False) for _ in requests]

    loglikelihood_rolling = generate_until = loglikelihood


def leaks(name, **config):
    """How many contexts hold their own question twice."""
    path = place / f"{name}.yaml"
    path.write_text(yaml.safe_dump({
        "task": name, "dataset_path": "json", "validation_split": "validation", "num_fewshot": 4,
        "dataset_kwargs": {"data_files": {"validation": str(place / "data.jsonl")}},
        "output_type": "multiple_choice", "doc_to_text": "{{question}}",
        "doc_to_choice": ["x", "y", "z"], "doc_to_target": "answer", **config,
    }))
    manager = TaskManager(include_defaults=False)
    made = lm_eval.simple_evaluate(
        Model(), tasks=[str(path)], task_manager=manager, bootstrap_iters=0
    )
    return sum(
        sample["arguments"][0][0].count(sample["doc"]["question"]) > 1
        for sample in made["samples"][name]
    )


named, unnamed = leaks("named", fewshot_split="validation"), leaks("unnamed")
print("lm-eval", lm_eval.__version__, "with fewshot_split:", named, "of 6; without:", unnamed)
assert named > 0 and unnamed == 0
PYTHON
