from __future__ import annotations

import hashlib
import json
import random

from hypothesis import given
from hypothesis import strategies as st

from pellucid.record import chain, merkle


def written(bodies: list[dict[str, object]]) -> list[bytes]:
    return list(chain.lines_of(bodies, chain.Tip()))


LINES = written(
    [{"kind": "step", "step": number, "loss": f"{number:016x}"} for number in range(20)]
)


def problems(lines: list[bytes]) -> list[int]:
    return [entry.n for entry in chain.read(lines, chain.Tip()) if entry.problem]


@given(
    st.lists(
        st.dictionaries(
            st.text(max_size=5).filter(lambda key: key not in ("prev", "n")), st.text(max_size=9)
        ),
        max_size=8,
    )
)
def test_what_is_written_reads_back(bodies: list[dict[str, object]]) -> None:
    read = list(chain.read(written(bodies), chain.Tip()))
    assert [entry.problem for entry in read] == [None] * len(bodies)
    assert [
        {k: v for k, v in entry.body.items() if k not in ("prev", "n")} for entry in read
    ] == bodies


def test_every_single_bit_flip_is_found_at_its_entry_or_the_next() -> None:
    random.seed(1)
    for _ in range(300):
        n = random.randrange(len(LINES) - 1)
        # Flipping the line break joins two lines: below.
        bit = random.randrange(8 * (len(LINES[n]) - 1))
        line = bytearray(LINES[n])
        line[bit // 8] ^= 1 << bit % 8
        numbers = problems([*LINES[:n], bytes(line), *LINES[n + 1 :]])
        assert numbers and numbers[0] in (n, n + 1), (n, bit)


def test_a_changed_last_entry_moves_the_head() -> None:
    changed = [*LINES[:-1], LINES[-1].replace(b"step", b"stop", 1)]
    assert (
        list(chain.read(changed, chain.Tip()))[-1].digest
        != list(chain.read(LINES, chain.Tip()))[-1].digest
    )


def test_removed_swapped_repeated_and_joined_entries_are_found() -> None:
    assert problems([*LINES[:5], *LINES[6:]])[0] == 5
    assert problems([*LINES[:5], LINES[6], LINES[5], *LINES[7:]])[0] == 5
    assert problems([*LINES[:5], LINES[4], *LINES[5:]])[0] == 5
    assert problems([*LINES[:5], LINES[5][:-1] + LINES[6], *LINES[7:]])[0] == 5


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_arbitrary_bytes_are_problems_never_exceptions(lines: list[bytes]) -> None:
    for entry in chain.read(lines, chain.Tip()):
        assert entry.problem


def test_every_other_spelling_is_a_problem() -> None:
    line = LINES[0]
    for spelling in (
        line.replace(b'"kind":', b'"kind": '),
        line.replace(b",", b",\t", 1),
        line.replace(b"{", b"{\r"),
        line.replace(b'"step":0', b'"step":-0'),
        line.replace(b'"kind"', b'"k\\u0069nd"'),
        line.replace(b'"step":0', b'"step":1,"step":0'),
        line.replace(b'"step":0', b'"step":{"a":1,"a":0}'),
        line.replace(b"}", b"}{}"),
        line.replace(b"}", b"} "),
    ):
        assert spelling != line and next(chain.read([spelling], chain.Tip())).problem, spelling
    # What is escaped, signed or nested in our own spelling is none.
    for body in ({"a": "x\n\u00e9\\"}, {"a": -5}, {"a": {"b": [1, {"c": ""}]}}, {"a:b": "c d"}):
        assert (
            next(chain.read([chain.line_of({**chain.Tip().place(), **body})], chain.Tip())).problem
            is None
        )


def test_other_ways_to_write_an_entry_are_problems() -> None:
    for number in (b"NaN", b"1e999", b"1.5", b"-Infinity"):
        line = LINES[0].replace(b'"step":0', b'"step":' + number)
        assert "with a point" in str(next(chain.read([line], chain.Tip())).problem)
    for n in (b"false", b"0.0", b"-0", b'"0"'):
        assert next(chain.read([LINES[0].replace(b'"n":0', b'"n":' + n)], chain.Tip())).problem
    swapped = LINES[0].replace(
        b'"prev":"' + b"0" * 64 + b'","n":0', b'"n":0,"prev":"' + b"0" * 64 + b'"'
    )
    assert next(chain.read([swapped], chain.Tip())).problem is not None


def test_a_deep_or_endless_line_is_a_problem() -> None:
    assert "not JSON" in str(next(chain.read([b"[" * 100_000 + b"\n"], chain.Tip())).problem)
    assert "longer" in str(next(chain.read([b"x" * (chain.MAX_LINE + 2)], chain.Tip())).problem)


def logged(own: list[dict[str, object]], changed: int = -1) -> list[bytes]:
    """The lines of a ledger in which one entry has another log, the chain whole."""
    tip, lines = chain.LedgerTip(), []
    for n, body in enumerate(own):
        place = tip.place()
        lines.append(chain.line_of(place | ({"log": f"{n:064x}"} if n == changed else {}) | body))
        tip.take(lines[-1])
    return lines


def test_each_entry_of_a_ledger_has_the_root_over_all_before_it() -> None:
    own = [{"kind": "step", "step": number} for number in range(40)]
    lines = logged(own)
    assert lines == list(chain.lines_of(own, chain.LedgerTip()))
    leaves = [merkle.leaf(line[:-1]) for line in lines]
    for n, entry in enumerate(chain.read(lines, chain.LedgerTip())):
        assert entry.problem is None and entry.body["log"] == merkle.root(leaves[:n]).hex()
    assert json.loads(lines[0])["log"] == hashlib.sha256(b"").hexdigest()


def test_another_log_is_a_problem_of_its_entry_and_of_no_other() -> None:
    own: list[dict[str, object]] = [{"kind": "step", "step": number} for number in range(40)]
    for n in range(40):
        wrong = [entry for entry in chain.read(logged(own, n), chain.LedgerTip()) if entry.problem]
        assert [entry.n for entry in wrong] == [n] and "root over the entries before" in str(
            wrong[0].problem
        )


def test_a_log_that_is_missing_or_elsewhere_is_a_problem() -> None:
    lines = logged([{"kind": "step", "step": number} for number in range(3)])
    for wrong in (
        chain.line_of({key: value for key, value in json.loads(lines[0]).items() if key != "log"}),
        chain.line_of({"prev": chain.START, "n": 0, "kind": "step", **json.loads(lines[0])}),
    ):
        assert "log" in str(next(chain.read([wrong], chain.LedgerTip())).problem)
    assert "log" not in next(chain.lines_of([{"kind": "start"}], chain.Tip())).decode()
