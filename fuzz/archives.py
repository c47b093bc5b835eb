"""Changes to a tar archive: fields of its headers, whole files, what stands around them."""

from __future__ import annotations

from fuzz.mutations import Choices

_BLOCK = 512
_FIELDS = {  # Of a header: where it stands, and how long it is.
    "name": (0, 100),
    "mode": (100, 8),
    "owner": (108, 8),
    "size": (124, 12),
    "time": (136, 12),
    "sum": (148, 8),
    "kind": (156, 1),
    "link": (157, 100),
    "magic": (257, 8),
    "user": (265, 32),
    "device": (329, 16),
    "prefix": (345, 155),
    "rest": (500, 12),
}
_NAMES = [b"", b"x", b"../x", b"/etc/x", b"a/../b", b"a//b", b".", b"\xff", b"x\0y", b"\xc3\xa9"]
_NAMES += [b"a" * 100, b"pellucid/" + b"b" * 91, b"a/" * 50, b"\n", b" "]
_SIZES = [b"00000000000\0", b"77777777777\0", b"00000000001\0", b"0000000000 \0", b"-0000000001\0"]
_SIZES += [b"\x80" + bytes(10) + b"\1", b"\xff" * 12, b"00000000008\0", b"000000_0001\0"]
_KINDS = [b"0", b"\0", b"1", b"2", b"3", b"5", b"6", b"7", b"L", b"K", b"S", b"g", b"x", b"V"]


def changed(content: bytes, choices: Choices) -> bytes:
    files = _files(content)
    end = content[sum(map(len, files)) :]
    for _ in range(1 + choices.below(3)):
        at = choices.below(len(files))
        how = choices.below(8)
        if how == 0 and len(files) > 1:
            del files[at]
        elif how == 1:
            files[at:at] = [files[at]] * choices.of([1, 2, 5000])
        elif how == 2:
            other = choices.below(len(files))
            files[at], files[other] = files[other], files[at]
        elif how == 3:
            end = choices.of([b"", bytes(_BLOCK), end + end, end[:-1] + b"x", bytes(1 << 20)])
        else:
            files[at] = _header(files[at], choices)
    return b"".join(files) + end


def _files(content: bytes) -> list[bytes]:
    """Each file with its header and what fills its last block."""
    found, place = [], 0
    while content[place : place + 1].strip(b"\0"):
        size = int(content[place + 124 : place + 135], 8)
        end = place + _BLOCK + -(-size // _BLOCK) * _BLOCK
        found.append(content[place:end])
        place = end
    return found


def _header(file: bytes, choices: Choices) -> bytes:
    """A file with another field in its header, and most often a sum that fits."""
    header = bytearray(file[:_BLOCK])
    field = choices.of(list(_FIELDS))
    start, length = _FIELDS[field]
    options = {"size": _SIZES, "kind": _KINDS, "name": _NAMES, "prefix": _NAMES}.get(field)
    value = choices.of(options) if options and choices.below(8) else choices.bytes(length)
    header[start : start + length] = value[:length].ljust(length, b"\0")
    if choices.below(4):
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + file[_BLOCK:]
