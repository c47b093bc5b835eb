#!/usr/bin/env bash
# tokenizers 0.23.3: the `id` that a tokenizer.json gives an added token is not the id that the token gets.
#
# The file below lists a vocabulary of ids 0 to 2 and an added token with the id 70. A reader would guess that the token
# is 70, or that the file is refused, since the guess comes from the file alone. The library loads it without a word and
# gives the token the next free id, 3. Whoever trained with 70 encodes otherwise from then on.
#
# Seen: {'a': 0, 'b': 1, 'c': 2, '<x>': 3}; the text "a<x>" is [0, 3]; saved again, the file says 3.
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
added = {"id": 70, "content": "<x>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
path.write_text(json.dumps({
    "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": None,
    "post_processor": None, "decoder": None, "added_tokens": [added | {"special": True}],
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}, "merges": []},
}))
made = tokenizers.Tokenizer.from_file(str(path))
vocabulary = dict(sorted(made.get_vocab().items(), key=lambda pair: pair[1]))
print("tokenizers", tokenizers.__version__, vocabulary, made.encode("a<x>").ids)
made.save(str(path))
again = json.loads(path.read_text())["added_tokens"][0]["id"]
print("saved again:", again)
assert vocabulary == {"a": 0, "b": 1, "c": 2, "<x>": 3} and made.encode("a<x>").ids == [0, 3] and again == 3
PYTHON
