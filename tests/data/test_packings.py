"""Files packed by gzip, zstd, xz or bzip2: read whatever their names say, and
named where they are damaged."""

from __future__ import annotations

import random

import pytest

from pellucid.data import formats, packings
from pellucid.data.readers import READERS
from pellucid.errors import SourceUnreadable
from pellucid.recipe import Source
from tests.data.reading import pack


@pytest.mark.parametrize("ending", ["", ".gz", ".zst", ".zstd", ".xz", ".bz2"])
@pytest.mark.parametrize("format", ["text", "lines"])
def test_every_packing_is_read_under_its_ending_and_without(tmp_path, ending, format):
    for name in (f"a.TXT{ending.upper()}", "plain"):
        path = tmp_path / name
        path.write_bytes(pack(b"one\ntwo", ending))
        found = READERS[format](path, formats.How(Source(name="s", format=format)), 0)
        assert "\n".join(record.text for record in found) == "one\ntwo"


@pytest.mark.parametrize("ending", [".gz", ".zst", ".zstd", ".xz", ".bz2"])
def test_joined_compressed_files_are_read_to_the_end(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    path.write_bytes(pack(b"one\n", ending) + pack(b"two\n", ending))
    assert [
        record.text
        for record in formats.read_lines(path, formats.How(Source(name="s", format="lines")))
    ] == [
        "one",
        "two",
    ]


@pytest.mark.parametrize("ending", [".gz", ".zst", ".zstd", ".xz", ".bz2"])
@pytest.mark.parametrize("damage", ["cut", "junk"])
@pytest.mark.parametrize("reader", [formats.read_text, formats.read_lines])
def test_damaged_packings_name_the_file(tmp_path, ending, damage, reader):
    whole = pack(b"some line\n" * 5000, ending)
    path = tmp_path / f"x{ending}"
    path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"not compressed at all")
    with pytest.raises(SourceUnreadable, match=path.name):
        list(reader(path, formats.How(Source(name="s", format="lines"))))


@pytest.mark.parametrize("ending", [".gz", ".zst", ".xz", ".bz2"])
def test_of_a_large_packed_file_no_more_than_its_head_is_unpacked(tmp_path, ending):
    """`new` looks at 200 files of a folder: here it would meet where this one is cut."""
    path = tmp_path / f"x{ending}"
    content = random.Random(1).randbytes(2 << 20)
    path.write_bytes(pack(content, ending)[:960_000])
    assert packings.head(path, "s", 1 << 16) == content[: 1 << 16]
    with pytest.raises(SourceUnreadable):
        packings.head(path, "s", 1 << 20)


def test_damaged_packed_bytes_never_give_another_error(tmp_path):
    """Whatever follows the first bytes of a packing: the file is named, or its bytes are read."""
    draw = random.Random(7)
    for number in range(120):
        ending = draw.choice([".gz", ".zst", ".xz", ".bz2"])
        content = bytearray(pack(b"some line\n" * 40, ending))
        for _ in range(draw.randrange(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path = tmp_path / f"{number}{ending}"
        path.write_bytes(content)
        try:
            list(formats.read_text(path, formats.How(Source(name="s"))))
        except SourceUnreadable as error:
            assert path.name in str(error)
