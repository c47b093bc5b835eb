"""Every forgery of the tests: who catches it, what the finding names, and the work that took.

    python bench/forgeries.py

Runs tests/forgery and prints its table. Seconds are those of a release of 13 small steps.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


class Table:
    """Gathers what each test says of its forgery."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        said = dict(report.user_properties)
        if report.when == "call" and "by" in said:
            self.rows.append(said)


def main() -> None:
    table = Table()
    failed = pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", str(ROOT / "tests/forgery")], plugins=[table])
    order = {"verify": 0, "nobody": 2}
    table.rows.sort(key=lambda row: order.get(str(row["by"]), 1))
    print(f"\n{'forgery':<99}{'caught by':<18}{'named':<46}{'steps':>6}{'seconds':>9}")
    for row in table.rows:
        named = f"{row['error']} {row['names']}".strip()[:44]
        print(f"{row['forgery']:<99}{row['by']:<18}{named:<46}{row['replayed']:>6}{row['seconds']:>9.2f}")
    by_verify, by_nobody = (sum(row["by"] == who for row in table.rows) for who in ("verify", "nobody"))
    by_audit = len(table.rows) - by_verify - by_nobody
    print(f"{len(table.rows)} forgeries: {by_verify} caught by verify, {by_audit} by audit, {by_nobody} by nobody")
    sys.exit(failed)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
