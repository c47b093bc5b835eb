"""Which licences are open, and where those of texts and of a model do not fit.

Open is what the Open Source Initiative has approved for code, or the Open Definition for texts and
data, by its SPDX id. What is not listed counts as not open: a card never calls open what it does
not know."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_CODE = """
0BSD AFL-3.0 AGPL-3.0 AGPL-3.0-only AGPL-3.0-or-later Apache-1.1 Apache-2.0 Artistic-2.0
BlueOak-1.0.0 BSD-1-Clause BSD-2-Clause BSD-2-Clause-Patent BSD-3-Clause BSD-3-Clause-Clear
BSD-3-Clause-LBNL BSL-1.0 CDDL-1.0 CECILL-2.1 CPL-1.0 ECL-2.0 EPL-1.0 EPL-2.0 EUPL-1.1 EUPL-1.2
GPL-2.0 GPL-2.0-only GPL-2.0-or-later GPL-3.0 GPL-3.0-only GPL-3.0-or-later HPND ISC LGPL-2.0
LGPL-2.0-only LGPL-2.0-or-later LGPL-2.1 LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0 LGPL-3.0-only
LGPL-3.0-or-later LPPL-1.3c MirOS MIT MIT-0 MPL-1.1 MPL-2.0 MS-PL MS-RL MulanPSL-2.0 NCSA OFL-1.1
OpenMDW-1.0 OSL-3.0 PostgreSQL PSF-2.0 Python-2.0 QPL-1.0 Unicode-3.0 Unicode-DFS-2016 Unlicense
UPL-1.0 W3C X11 Zlib ZPL-2.1
"""
_CONTENT = """
CC0-1.0 CC-BY-1.0 CC-BY-2.0 CC-BY-2.5 CC-BY-3.0 CC-BY-4.0 CC-BY-SA-1.0 CC-BY-SA-2.0 CC-BY-SA-2.5
CC-BY-SA-3.0 CC-BY-SA-4.0 CDLA-Permissive-1.0 CDLA-Permissive-2.0 CDLA-Sharing-1.0 GFDL-1.3-only
GFDL-1.3-or-later LAL-1.3 ODbL-1.0 ODC-By-1.0 PDDL-1.0
"""
_OPEN = {name.casefold(): name for name in (_CODE + _CONTENT).split()}
# What asks that works made from it have the same terms.
_SHARED = re.compile(r"(?:L?A?GPL|CC-BY-SA|ODbL|CDLA-Sharing|GFDL|EUPL|OSL|CECILL|MS-RL)\b", re.I)
_OPERATOR = re.compile(r"\s+(?:AND|OR|WITH)\s+|[()]")


class Counted(NamedTuple):
    """A licence of texts, and how many documents have it."""

    name: str
    documents: int


def is_open(licence: str) -> bool:
    """Whether an SPDX expression gives an open licence: of alternatives one, of a sum each. With
    brackets all that it names have to be open."""
    if "(" in licence:
        named = [one for one in _OPERATOR.split(licence) if one.strip()]
        return bool(named) and all(map(_is_open, named))
    return any(
        all(map(_is_open, re.split(r"\s+AND\s+", one))) for one in re.split(r"\s+OR\s+", licence)
    )


def spelled(licence: str) -> str | None:
    """An open licence as SPDX spells it; None for any other."""
    return _OPEN.get(licence.casefold())


def _is_open(licence: str) -> bool:
    """Of one licence; an exception to it allows more."""
    return bool(spelled(re.split(r"\s+WITH\s+", licence)[0].strip()))


def conflicts(model: str | None, texts: Iterable[Counted], unknown: int) -> list[str]:
    """What whoever uses the model has to know of the licences: of texts whose licence is unknown or
    not open, and of those that ask that works made from them have their terms. In words, which name
    licences as they are spelled; who shows them escapes them."""
    found = []
    if unknown:
        found.append(f"the licence of {_documents(unknown)} is unknown")
    counted = list(texts)
    closed = [one for one in counted if not is_open(one.name)]
    found += [
        f"{_documents(one.documents)} under {one.name}, which is not among the open licences"
        for one in closed
    ]
    found += [
        f"{_documents(one.documents)} under {one.name}, which asks that works made from them have "
        f"its terms, and the model is under {model or 'no licence that is said'}"
        for one in counted
        if one not in closed and _SHARED.match(one.name) and one.name != model
    ]
    return found


def _documents(count: int) -> str:
    return f"{count:,} document{'s' * (count != 1)}"
