#!/usr/bin/env bash
# tokenizers 0.23.3: of merges that are written as strings, a first one that begins with "#version" is dropped in silence.
#
# merges.txt may begin with a line such as "#version: 0.2", and the reader of tokenizer.json skips it in the list of merges
# too, where the format has no header. Written as the pair ["#version", "s"] the same merge is kept. So two files with
# different merges, or with the same ones, may encode alike or not, by spelling alone.
#
# Seen: with the string "#version s" the text is two tokens; with the pair it is one.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check tokenizers==0.23.3
"$place/env/bin/python" - "$place" <<'PYTHON'
import json, sys
from pathlib import Path

import tokenizers

path = Path(sys.argv[1]) / "tokenizer.json"
steps = ["#v", "#ve", "#ver", "#vers", "#versi", "#versio", "#version"]
vocabulary = {token: number for number, token in enumerate(dict.fromkeys([*"#versions", *steps, "#versions"]))}
built = [[whole[:-1], whole[-1]] for whole in steps]


def ids(first):
    path.write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": None,
        "post_processor": None, "decoder": None, "added_tokens": [],
        "model": {"type": "BPE", "vocab": vocabulary, "merges": first},
    }))
    return tokenizers.Tokenizer.from_file(str(path)).encode("#versions").tokens


strings = ids(["#version s", *(" ".join(pair) for pair in built)])
pairs = ids([["#version", "s"], *built])
print("tokenizers", tokenizers.__version__, "strings", strings, "pairs", pairs)
assert strings == ["#version", "s"] and pairs == ["#versions"]
PYTHON
