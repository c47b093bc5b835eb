"""The form of the site's data files: what goes in comes out, and nothing else is one."""

from __future__ import annotations

import base64
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import FormatInvalid
from pellucid.site.pack import canonical, packed, unpacked


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=6))
def test_what_is_packed_is_unpacked(pieces: list[bytes]) -> None:
    content = packed("steps/00003", pieces)
    assert unpacked(content, "steps/00003", sum(map(len, pieces)), "x") == pieces
    assert re.fullmatch(rb'pellucid\("steps/00003",\["[A-Za-z0-9+/=",]*"\]\);\n', content)


@given(st.binary(min_size=1, max_size=200), st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_makes_no_other_script(piece: bytes, place: int, byte: int) -> None:
    content = bytearray(packed("overview", [piece]))
    content[place % len(content)] = byte
    try:
        unpacked(bytes(content), "overview", len(piece), "x")
    except FormatInvalid:
        return
    assert re.fullmatch(rb'pellucid\("overview",\["[A-Za-z0-9+/=",]*"\]\);\n', content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'pellucid("steps/1",[""]);\n',
        b'pellucid("overview",[]);\n',
        b'pellucid("overview",["AA"]);alert(1);pellucid("overview",["AA"]);\n',
        b'pellucid("overview",["AA",alert(1),"AA"]);\n',
        b'pellucid("overview",["A A="]);\n',
        packed("overview", [b"{}"]) + b" ",
        b" " + packed("overview", [b"{}"]),
    ],
)
def test_nothing_else_is_a_data_file(content: bytes) -> None:
    with pytest.raises(FormatInvalid):
        unpacked(content, "overview", 100, "site/data/overview.js")


def test_a_piece_that_unpacks_to_more_than_it_may_is_refused_early() -> None:
    large = zlib.compressobj(9, zlib.DEFLATED, -15)
    text = base64.b64encode(large.compress(bytes(10_000_000)) + large.flush())
    with pytest.raises(FormatInvalid, match="another size"):
        unpacked(b'pellucid("overview",["' + text + b'"]);\n', "overview", 1000, "x")


def test_a_number_that_is_none_has_no_spelling() -> None:
    with pytest.raises(ValueError):
        canonical({"loss": float("nan")})
    assert canonical({"b": 0.1, "a": "é</script>"}) == '{"b":0.1,"a":"é</script>"}'.encode()
