"""Every forgery of the tests: who catches it, what the finding names, and the work that took.

    python bench/forgeries.py

Runs tests/forgery and prints its table. Seconds are those of a release of 13 small steps.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


class Table:
    """Gathers what each test says of its forgery."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str | float]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        said = dict(report.user_properties)
        if report.when == "call" and "by" in said:
            self.rows.append(said)


def main() -> None:
    table = Table()
    failed = pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", str(ROOT / "tests/forgery")], plugins=[table])
    order = {"verify": 0, "nobody": 2}
    table.rows.sort(key=lambda row: order.get(str(row["by"]), 1))
    print(f"\n{'forgery':<92}{'caught by':<18}{'named':<46}{'steps':>6}{'seconds':>9}")
    for row in table.rows:
        named = f"{row['error']} {row['names']}".strip()[:44]
        print(f"{row['forgery']:<92}{row['by']:<18}{named:<46}{row['replayed']:>6}{row['seconds']:>9.2f}")
    caught = sum(row["by"] != "nobody" for row in table.rows)
    by_verify = sum(row["by"] == "verify" for row in table.rows)
    print(
        f"{len(table.rows)} forgeries: {by_verify} caught by verify, {caught - by_verify} by the audit of a step, ",
        end="",
    )
    print(f"{len(table.rows) - caught} by nobody")
    sys.exit(failed)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
