"""cards/dataset.md: the dataset card, with what the Hub reads in front of it
(huggingface.co/docs/hub/datasets-cards)."""

from __future__ import annotations

from typing import Any

from pellucid.cards import hub
from pellucid.cards.facts import PUBLISHER, Facts
from pellucid.cards.licences import is_open
from pellucid.cards.markdown import escape, reasons, unsaid
from pellucid.cards.yaml import dumped

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_SIZES += ((10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"))
_LARGEST = "1B<n<10B"


def card(facts: Facts) -> str:
    sections = [_text(facts), _sources(facts), _licences(facts), _publisher(facts), _LOAD]
    return f"---\n{dumped(_metadata(facts))}---\n\n" + "\n".join(sections)


def _metadata(facts: Facts) -> dict[str, Any]:
    documents = facts.documents.manifest["documents"]
    named, _ = facts.licences
    fields = {
        "pretty_name": f"Texts of {facts.title()}",
        **hub.licence(named[0].name if len(named) == 1 else None),
        "language": list(facts.said.release.languages or ()) or None,
        "task_categories": ["text-generation"],
        "size_categories": [next((w for limit, w in _SIZES if documents < limit), _LARGEST)],
        "tags": ["pellucid"],
        "configs": [
            {
                "config_name": "default",
                # One file holds both splits: which a text is in stands in its row.
                "data_files": [{"split": "train", "path": "data/documents/*.parquet"}],
            }
        ],
    }
    return {name: value for name, value in fields.items() if value}


def _text(facts: Facts) -> str:
    manifest = facts.documents.manifest
    return f"""# Texts of {escape(facts.title())}

All {manifest["documents"]:,} texts, {int(manifest["bytes"]):,} bytes, that the model \
{escape(facts.recipe.name)} was trained and validated on. The column `split` says which is for \
what. Their root, `{facts.status["data"]}`, is in the ledger of the model, so nothing was added, \
removed or changed since.
"""


def _sources(facts: Facts) -> str:
    rows = [
        f"| {escape(one['name'])} | {one['documents']:,} | {int(one['bytes']):,} "
        f"| {reasons(one['dropped'], False)} | {reasons(one['dropped'], True)} |"
        for one in facts.documents.manifest["sources"]
    ]
    head = "## Sources\n\n| source | documents | bytes | left out | kept, with changes |\n"
    return head + "|---|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _licences(facts: Facts) -> str:
    named, others = facts.licences
    rows = [
        f"| {escape(one.name)} | {'yes' if is_open(one.name) else 'no'} | {one.documents:,} "
        f"| {one.bytes:,} | {one.tokens:,} |"
        for one in named
    ]
    if others:
        rows.append(
            f"| *others* | *not known* | {others.documents:,} | {others.bytes:,} "
            f"| {others.tokens:,} |"
        )
    head = "## Licences\n\n| licence | open | documents | bytes | tokens |\n|---|---|---|---|---|\n"
    found = [f"- {escape(one)}" for one in facts.conflicts]
    told = ["", "Whoever uses the model has to know:", "", *found] if found else []
    return head + "\n".join([*rows, *told]) + "\n"


def _publisher(facts: Facts) -> str:
    """What only the publisher can say."""
    said = facts.said.data
    titles = {
        "collection": "Collection",
        "limitations": "Limitations",
        "biases": "Biases",
        "personal_information": "Personal information",
        "uses": "Uses",
        "social_impact": "Social impact",
    }
    lines = [
        f"- {title}: {escape(text)}"
        if (text := getattr(said, name))
        else f"- {title}: {unsaid(f'data.{name}')}"
        for name, title in titles.items()
    ]
    return f"## Said by the {PUBLISHER}\n\n" + "\n".join(lines) + "\n"


_LOAD = """## Load them

```python
from datasets import load_dataset

texts = load_dataset("parquet", data_files="data/documents/*.parquet")
```

`cards/croissant.json` describes the same files with their SHA-256. In a release, \
`pellucid where . "some text"` finds a text and the steps that read it.
"""
