"""A checkpoint in transformers against ours: logits on real validation text.

python bench/logits.py RUN [--sequences 64]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

from pellucid.inputs import Inputs
from pellucid.recipe import load
from pellucid.replay.materialise import materialise


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--sequences", type=int, default=64)
    arguments = parser.parse_args()
    inputs = Inputs.load(arguments.run, load(arguments.run))
    ours = materialise(inputs, inputs.recorded().steps_done, lambda done, total: None).model
    theirs = transformers.AutoModelForCausalLM.from_pretrained(arguments.run, dtype=torch.float32)
    T, stream = inputs.recipe.model.context, inputs.shards.validation[0]
    count = min(arguments.sequences, stream.tokens // T)
    largest, places, close, unequal = 0.0, 0, 0, 0
    for number in range(count):
        tokens = torch.from_numpy(stream.read(number * T, number * T + T).astype(np.int64))[None]
        with torch.no_grad():
            a, b = ours(tokens)[0], theirs(tokens).logits[0]
        difference = float((a - b).abs().max())
        largest = max(largest, difference)
        top = a.topk(2).values
        decided = (top[:, 0] - top[:, 1]) > 2 * difference
        places += T
        close += int((~decided).sum())
        unequal += int(((a.argmax(-1) != b.argmax(-1)) & decided).sum())
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    print(f"{versions}: {count} sequences of {T} validation tokens")
    print(f"  largest difference of a logit  {largest:.2e}")
    print(
        f"  argmax unequal                 {unequal} of {places - close} places; {close} "
        "excluded as too close to call"
    )
    sys.exit(largest >= 1e-4 or unequal > 0)


if __name__ == "__main__":
    main()
