"""What the Hugging Face Hub reads in front of a card (huggingface.co/docs/hub/model-cards)."""

from __future__ import annotations

from typing import Any

from pellucid.cards.facts import Facts
from pellucid.cards.yaml import dumped

_IDS = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0
cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0
cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0
epl-2.0 eupl-1.1 eupl-1.2 gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0
ms-pl ncsa odbl odc-by ofl-1.1 open-mdw osl-3.0 pddl postgresql unlicense zlib
"""
# SPDX ids that the Hub has under the same name, in small letters. It calls all others "other".
_KNOWN = frozenset(_IDS.split())
_OTHERWISE = {"odbl-1.0": "odbl", "odc-by-1.0": "odc-by", "pddl-1.0": "pddl"}
_OTHERWISE |= {"openmdw-1.0": "open-mdw"}


def licence(name: str | None) -> dict[str, str]:
    """The fields of a licence; none where it is not known."""
    if not name or name == "unknown":
        return {"license": "unknown"} if name else {}
    small = name.casefold().removesuffix("-only").removesuffix("-or-later")
    small = _OTHERWISE.get(small, small)
    if small in _KNOWN:
        return {"license": small}
    return {"license": "other", "license_name": name, "license_link": "LICENSE"}


def front(facts: Facts) -> str:
    """What stands before the README of a model."""
    said = facts.said
    fields: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        **licence(facts.licence.value),
        "language": list(said.release.languages or ()) or None,
        "tags": ["pellucid", facts.recipe.model.family, *(said.release.keywords or ())],
    }
    return f"---\n{dumped({name: value for name, value in fields.items() if value})}---\n"
