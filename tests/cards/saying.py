"""What a publisher may say, in full."""

from __future__ import annotations

from pathlib import Path

WHOLE = """
[release]
title = "A small model"
description = "Trained to be checked."
version = "1.2"
date = "2026-11-30"
url = "https://example.org/small"
repository = "https://example.org/code"
doi = "10.5281/zenodo.1234567"
licence = "Apache-2.0"
keywords = ["small", "open"]
languages = ["en", "pt-BR"]

[publisher]
name = "A lab"
contact = "lab@example.org"
representative = "nobody outside the Union"

[[authors]]
name = "A. Maker"
orcid = "https://orcid.org/0000-0002-1825-0097"
affiliation = "A lab"

[[authors]]
name = "No. Body"

[report]
title = "How it was made"
url = "https://example.org/report.html"
licence = "CC-BY-4.0"

[paper]
title = "What it shows"
url = "https://example.org/paper.pdf"
licence = "CC-BY-4.0"

[model]
intended_use = "research"
out_of_scope = "advice"
limitations = "small"
biases = "those of its texts"

[data]
collection = "written by a script"
limitations = "made-up words"
biases = "none known"
personal_information = "none"
uses = "tests"
social_impact = "none"

[sources."stones"]
kind = "crawled"
description = "made-up sentences"
url = "https://example.org/texts"
collected_from = "2026-01-01"
collected_until = "2026-10-01"
crawlers = ["examplebot"]
purposes = "tests"
behaviour = "reads robots.txt"
domains = ["example.org"]
models = []
services = "none"

[summary]
version = "1"
updated = "2026-11-30"
placed = "2026-12-01"
types_of_content = "made-up prose"
continuous = false
linguistic = "no language"
other = "none"
code_of_practice = false
reservations = "robots.txt"
illegal_content = "none needed"
processing = "none"
comments = "none"
"""


def say(folder: Path, text: str) -> None:
    (folder / "publisher.toml").write_text(text, encoding="utf-8")
