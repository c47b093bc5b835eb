"""A USTAR archive in one spelling, which is what record/code.tar is (docs/format.md, section 13).

Plain files sorted by the bytes of their names, of mode 644, with owners and times zero; two empty
blocks behind them, and zeros up to a multiple of 10,240 bytes (POSIX.1-2017, pax, "ustar
Interchange Format"). tar knows much more: links, holes, comments that change the sizes of what
follows. None of it is read here."""

from __future__ import annotations

from collections.abc import Mapping

_BLOCK, _RECORD = 512, 10_240
_LONGEST = 100  # Bytes of a name; behind the folders that stand in another field.
MOST = 1 << 12  # Files of an archive.


def write(contents: Mapping[str, bytes]) -> bytes:
    """The archive of some files by their names. Raises ValueError for a name
    that no header has room for."""
    out = bytearray()
    for name, content in sorted((name.encode(), content) for name, content in contents.items()):
        out += _header(name, len(content)) + content + bytes(-len(content) % _BLOCK)
    out += bytes(2 * _BLOCK)
    return bytes(out + bytes(-len(out) % _RECORD))


def read(archive: bytes) -> dict[str, bytes]:
    """The files of an archive, by their names. Raises ValueError for one
    that `write` does not write."""
    contents: dict[str, bytes] = {}
    place = 0
    while archive[place : place + 1].strip(b"\0"):  # A header begins with a name.
        header = archive[place : place + _BLOCK]
        name = b"/".join(
            part
            for part in (header[345:500].rstrip(b"\0"), header[:_LONGEST].rstrip(b"\0"))
            if part
        )
        digits = header[124:135]
        if not digits.isdigit() or header != _header(name, int(digits, 8)):
            raise ValueError(f"the header at byte {place} does not describe a plain file")
        if len(contents) == MOST or b"\0" in name or {b"", b".", b".."} & {*name.split(b"/")}:
            raise ValueError(
                f"has more than {MOST} files, or a name that leads out of the archive, "
                f"at byte {place}"
            )
        place += _BLOCK
        contents[name.decode()] = archive[place : place + int(digits, 8)]
        place += -(-int(digits, 8) // _BLOCK) * _BLOCK
    if write(contents) != archive:
        raise ValueError(
            "its files are cut short, out of order or duplicated, or other bytes surround them"
        )
    return contents


def _header(name: bytes, size: int) -> bytes:
    cut = name.find(b"/", len(name) - _LONGEST - 1) if len(name) > _LONGEST else -1
    folders, last = name[: max(cut, 0)], name[cut + 1 :]
    block = b"".join(
        (
            last.ljust(_LONGEST, b"\0"),
            b"0000644\0" + b"0000000\0" * 2,  # Mode, owner, group.
            b"%011o\0" % size,
            b"00000000000\0",  # Time.
            b" " * 8,  # The sum, which is made as if it were blanks.
            b"0" + bytes(100),  # A plain file, and no link.
            b"ustar\x0000" + bytes(80),
            folders.ljust(155, b"\0"),
            bytes(12),
        )
    )
    if len(block) != _BLOCK or not last:
        raise ValueError(f"{name[:100]!r} is not a valid name, or its file is too large")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
