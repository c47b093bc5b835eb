#!/usr/bin/env bash
# lm-eval 0.4.13: an answer that is written in brackets, such as "[1, 2]", is never right, not even
# letter for letter.
#
# doc_to_target is a template, and a reader would guess that its text is what the model has to
# write. A text that begins with "[" and ends with "]" is evaluated as Python, and its elements
# become alternative targets. They are numbers here, and a text equals no number. A task about
# lists, code or coordinates so rates a perfect model with 0, without a warning. If the field is
# named instead of rendered (doc_to_target: answer), the text stays a text.
#
# Seen: exact_match 0.0 for the model that writes "[1, 2]" with the template, and 1.0 with the name
# of the field.
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
(place / "data.jsonl").write_text(json.dumps({"question": "sort 2, 1", "answer": "[1, 2]"}) + "\n")
logging.disable(logging.WARNING)


class Model(LM):
    def generate_until(self, requests):
        return ["[1, 2]" for _ in requests]

    loglikelihood = loglikelihood_rolling = generate_until


def rated(name, target):
    path = place / f"{name}.yaml"
    path.write_text(yaml.safe_dump({
        "task": name, "dataset_path": "json", "test_split": "test", "output_type": "generate_until",
        "dataset_kwargs": {"data_files": {"test": str(place / "data.jsonl")}},
        "doc_to_text": "{{question}}", "doc_to_target": target,
        "metric_list": [{"metric": "exact_match"}],
    }))
    manager = TaskManager(include_defaults=False)
    made = lm_eval.simple_evaluate(
        Model(), tasks=[str(path)], task_manager=manager, bootstrap_iters=0
    )
    return float(made["samples"][name][0]["exact_match"])


template, field = rated("template", "{{answer}}"), rated("field", "answer")
print("lm-eval", lm_eval.__version__, "template:", template, "field:", field)
assert (template, field) == (0.0, 1.0)
PYTHON
