"""The archive of code: what tarfile writes and reads of it, and that
nothing else is taken for one."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid import journal
from pellucid.errors import FormatInvalid
from pellucid.store import ustar

CONTENTS = {
    "pellucid/a.py": b"x" * 512,
    "pellucid/b/c.h": b"",
    "pellucid/b/\u00e4.py": b"y" * 700,
    "z": b"z",
}
PARTS = st.text("ab\u00e4.", min_size=1, max_size=90).filter(lambda part: part.strip(".") != "")


def by_tarfile(
    contents: dict[str, bytes], kind: int = tarfile.USTAR_FORMAT, **fields: object
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name in sorted(contents, key=str.encode):
            about = tarfile.TarInfo(name)
            about.size = len(contents[name])
            for field, value in fields.items():
                setattr(about, field, value)
            archive.addfile(about, io.BytesIO(contents[name]))
    return buffer.getvalue()


@given(
    st.dictionaries(
        st.lists(PARTS, min_size=1, max_size=3).map("/".join), st.binary(max_size=2000), max_size=4
    )
)
def test_tarfile_writes_the_same_bytes(contents: dict[str, bytes]) -> None:
    try:
        written = ustar.write(contents)
    except ValueError:
        with pytest.raises(ValueError):
            by_tarfile(contents)
        return
    assert written == by_tarfile(contents) and ustar.read(written) == contents


def test_our_own_code_is_one(tmp_path: Path) -> None:
    (tmp_path / "code.tar").write_bytes(journal.code_archive())
    assert (
        journal.code_in(tmp_path / "code.tar")["pellucid/journal.py"]
        == Path(journal.__file__).read_bytes()
    )


def hole(size: int) -> bytes:
    """A file of GNU's sparse form: nothing in the archive, and of any size for a reader."""
    about = tarfile.TarInfo("hole")
    header = bytearray(about.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[386:410] = b"%011o\0" % size + b"00000000000\0"
    header[483:495] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def again(place: int, byte: int) -> bytes:
    """A header with another byte, its sum made again."""
    archive = bytearray(ustar.write(CONTENTS))
    archive[place] = byte
    archive[148:156] = b" " * 8
    archive[148:156] = b"%06o\0 " % sum(archive[:512])
    return bytes(archive)


ARCHIVE = ustar.write(CONTENTS)
OTHERS: dict[str, Callable[[], bytes]] = {
    "no archive": lambda: b"garbage",
    "nothing": lambda: b"",
    "a header alone": lambda: ARCHIVE[:512],
    "cut short": lambda: ARCHIVE[:-512],
    "more behind it": lambda: ARCHIVE + bytes(10_240),
    "another archive behind it": lambda: ARCHIVE + ARCHIVE,
    "something in the padding": lambda: ARCHIVE[:-1] + b"x",
    "GNU's form": lambda: by_tarfile(CONTENTS, tarfile.GNU_FORMAT),
    "a file twice": lambda: ARCHIVE[:1024] + ARCHIVE,
    "another order": lambda: by_tarfile({"b": b""})[:512] + by_tarfile({"a": b""}),
    "headers of pax": lambda: by_tarfile(
        {"x": b""}, tarfile.PAX_FORMAT, pax_headers={"GNU.sparse.map": "x,y"}
    ),
    "holes": lambda: b"".join(hole(1 << 26) for _ in range(20)) + bytes(1024),
    "a link": lambda: by_tarfile({"x": b""}, type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "an owner": lambda: by_tarfile(CONTENTS, uid=1000),
    "a time": lambda: by_tarfile(CONTENTS, mtime=1),
    "a way out": lambda: ustar.write({"../x": b""}),
    "an absolute path": lambda: ustar.write({"/x": b""}),
    "a name cut by a zero": lambda: ustar.write({"x\0y": b""}),
    "a name that is no text": lambda: again(0, 0xFF),
    "a size below zero": lambda: again(124, ord("-")),
    "a size with a blank": lambda: again(124, ord(" ")),
    "a digit that is none": lambda: again(134, ord("8")),
    "too many files": lambda: ustar.write(
        {f"{number:05}": b"" for number in range(ustar.MOST + 1)}
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_archive_is_refused(name: str, tmp_path: Path) -> None:
    archive = OTHERS[name]()
    with pytest.raises(ValueError):
        ustar.read(archive)
    (tmp_path / "code.tar").write_bytes(archive)
    with pytest.raises(FormatInvalid, match=r"code\.tar: is not an archive that pellucid writes"):
        journal.code_in(tmp_path / "code.tar")


@given(st.integers(0, len(ARCHIVE) - 1), st.integers(0, 255))
def test_every_byte_of_a_header_counts(place: int, byte: int) -> None:
    """Whatever byte is changed: refused, or the content of a file is another."""
    changed = bytearray(ARCHIVE)
    changed[place] = byte
    try:
        contents = ustar.read(bytes(changed))
    except ValueError:
        return
    assert bytes(changed) == ARCHIVE or (
        contents != CONTENTS and contents.keys() == CONTENTS.keys()
    )
