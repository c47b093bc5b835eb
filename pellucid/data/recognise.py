"""What a file is by its first bytes, whatever its name, and the command that
converts what no reader takes."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from pellucid.data import encodings, endings, json_heads, packings
from pellucid.errors import PellucidError

HEAD = 1 << 16


class Kind(NamedTuple):
    words: str
    target: str = ""  # The format it can be converted to: an ending.
    code: str = ""  # Of Python or awk, see command().


_PYTHON = shlex.quote(sys.executable or "python")
_AWK_GENBANK = (
    '/^LOCUS/{print ">" $2} /^ORIGIN/{s=1; next} /^\\/\\//{s=0} s{gsub(/[^A-Za-z]/, ""); print '
    "toupper($0)}"
)
_AWK_FASTQ = 'NR % 4 == 1 {print ">" substr($0, 2)} NR % 4 == 2'
_WARC = (
    "import json, sys; from fastwarc.warc import ArchiveIterator, WarcRecordType; "
    "from resiliparse.parse.encoding import bytes_to_str, detect_encoding; "
    "from resiliparse.extract.html2text import extract_plain_text; "
    "pages = (one.reader.read() for one in ArchiveIterator(sys.stdin.buffer, "
    "record_types=WarcRecordType.response)); "
    '[print(json.dumps({"text": extract_plain_text(bytes_to_str(page, '
    "detect_encoding(page)))})) for page in pages]"
)
_JSON = (
    "import json, sys; found = json.load(sys.stdin); "
    "rows = found if isinstance(found, list) else next(v for v in found.values() if "
    "isinstance(v, list) and v); "
    '[print(json.dumps(one if isinstance(one, dict) else {"text": one})) for one in rows]'
)
KINDS = {
    "parquet": Kind("Parquet"),
    "warc": Kind("WARC", "jsonl", _WARC),
    "genbank": Kind("GenBank", "fasta", _AWK_GENBANK),
    "fastq": Kind("FASTQ", "fasta", _AWK_FASTQ),
    "fasta": Kind("FASTA"),
    "csv": Kind("CSV"),
    "tsv": Kind("TSV"),
    "json_lines": Kind("JSON lines"),
    "json_array": Kind("a JSON array"),
    "json_records": Kind("one JSON object with a list of records", "jsonl", _JSON),
    "json_object": Kind("one JSON object"),
}
# The kinds that are formats of ours. A folder's tables are read only where somebody
# asks for it: which column holds texts, and whether any does, is nothing to guess for
# files that lie among others.
TABLES = {"parquet": "parquet", "csv": "csv", "tsv": "csv", "json_array": "json"}
READ_AS = {"fasta": "fasta", "json_lines": "jsonl", **TABLES}
_NO_PROSE = ("csv", "tsv", "json_array", "json_records")  # Not to be trained on as they are.
# What a file of a folder must not be for its format's reader. One that is named by
# itself may be read as plain text.
_STRANGE = {
    "text": ("parquet", "warc", "genbank", "fastq", "fasta", "json_lines", *_NO_PROSE),
    "lines": ("parquet", "warc", "genbank", "fastq", "fasta"),
    "package": (),
    **{
        format: tuple(kind for kind in KINDS if READ_AS.get(kind) != format)
        for format in ("jsonl", "json", "csv", "parquet", "fasta")
    },
}


def kind_of(path: Path, source: str) -> str:
    """A key of KINDS, or "" for anything else. Raises SourceUnreadable."""
    return recognised(packings.head(path, source, HEAD), endings.of(path.name))


def strange(kind: str, format: str, alone: bool, asked: bool = False) -> bool:
    """Whether a reader of this format can make nothing of a file of this kind; asked:
    a pattern takes such files."""
    if alone and format in ("text", "lines"):
        return kind == "parquet"
    return kind in _STRANGE[format] and not (asked and kind in _NO_PROSE and format == "text")


def is_foreign(path: Path, source: str) -> bool:
    """Whether the file could be read by another source, or converted; not
    what cannot be read at all."""
    try:
        return could_be_read(kind_of(path, source))
    except PellucidError:
        return False


def could_be_read(kind: str) -> bool:
    """Whether a file of this kind could be a source of its own, as a table or converted."""
    return kind in TABLES or (kind in KINDS and bool(KINDS[kind].target))


def recognised(head: bytes, ending: str = "") -> str:
    """A key of KINDS, or "", from the first HEAD bytes and the name's ending."""
    if head.startswith(b"PAR1"):
        return "parquet"
    head = b"".join(encodings.unmarked(iter([head])))
    if head.startswith(b"WARC/"):
        return "warc"
    if re.match(rb"LOCUS {3,}\S", head):
        return "genbank"
    # Without the last line, which may be cut.
    lines = [line.rstrip(b"\r") for line in head.split(b"\n")]
    whole = lines if len(head) < HEAD else lines[:-1]
    whole = [line for line in whole if line.strip()]
    if not head.strip() or b"\0" in head:
        return ""
    kind = _json(whole, head, ending) or (_biological(whole) if whole else "")
    if not kind and ending in ("csv", "tsv"):
        return ending
    # Code and prose may look like a table.
    others = ending != "txt" and endings.fits(f"x.{ending}", "text")
    return kind or ("" if others else _table(lines, cut=len(head) >= HEAD))


def _json(lines: list[bytes], head: bytes, ending: str) -> str:
    start = head.lstrip()[:1]
    if start not in (b"[", b"{"):
        return ""
    if start == b"{" and len(lines) > 1 and all(_object(line) for line in lines[:10]):
        return "json_lines"
    several = len(lines) > 1 and not _object(lines[0])
    shape = json_heads.shape(head.decode("utf-8", "replace"), cut=len(head) >= HEAD)
    if shape == "array":
        return "json_array"
    if shape == "records" and (several or ending == "json"):
        return "json_records"
    # A long first line may be the first of JSON lines.
    return "json_object" if start == b"{" and several else ""


def _object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _biological(lines: list[bytes]) -> str:
    if lines[0].startswith(b"@") and len(lines) >= 4:
        is_read = (
            lines[2].startswith(b"+") and len(lines[1]) == len(lines[3]) and _residues(lines[1])
        )
        return "fastq" if is_read else ""
    noted = [line for line in lines if not line.startswith(b";")]
    if len(noted) < 2 or not noted[0].startswith(b">"):
        return ""
    body = [line for line in noted[:200] if not line.startswith(b">")]
    return "fasta" if body and all(map(_residues, body)) and sum(map(len, body)) >= 20 else ""


_residues = re.compile(rb"(?:[A-Z*.-]+|[acgtun-]+)(?: (?:[A-Z*.-]+|[acgtun-]+))*\s*").fullmatch


def _table(lines: list[bytes], cut: bool) -> str:
    """Rows of equally many fields under a line of short names, at least four
    of them: "csv", "tsv" or ""."""
    text = [line.decode("utf-8", "replace") + "\n" for line in lines]
    for delimiter in ",\t;":
        rows = [row for row in _rows(text, delimiter, cut) if row]
        widths = {len(row) for row in rows}
        if len(widths) == 1 and widths.pop() > 1 and len(rows) >= 5:
            names = rows[0]
            short = all(
                re.fullmatch(r"\s*[\w.()/%#-]+(?: [\w.()/%#-]+){0,2}\s*", name) for name in names
            )
            if short and len(set(names)) == len(names):
                return "tsv" if delimiter == "\t" else "csv"
    return ""


def _rows(lines: list[str], delimiter: str, cut: bool) -> list[list[str]]:
    """The rows, whose fields may hold line breaks; of a cut table without the last."""
    rows, reader = [], csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        rows.extend(reader)
    except csv.Error:
        return rows if cut and reader.line_num == len(lines) else []
    return rows[:-1] if cut else rows


def fix(kind: str, path: Path) -> str:
    """What to do with a file of this kind, as the end of a message."""
    if kind in READ_AS:
        named = shlex.quote(f"{READ_AS[kind]}:{path}")
        return f'Set format = "{READ_AS[kind]}" (on the command line: --data {named})'
    if kind == "json_object":
        return 'Write a JSON object on each line, or read the file as it is: format = "text"'
    return f"Convert it with: {command(kind, path)}"


def command(kind: str, path: Path) -> str:
    """The line for a shell that converts the file, beside it, to a format that is
    read; no file is written over."""
    about = KINDS[kind]
    if kind == "warc":  # Its reader unpacks by itself.
        place, target = shlex.quote(str(path)), shlex.quote(str(made(path, about.target)))
        return (
            f"{_PYTHON} -m pip install fastwarc resiliparse; {python(about.code)} < {place} > "
            f"{target}"
        )
    program = python(about.code) if about.code == _JSON else f"awk {shlex.quote(about.code)}"
    return through(program, path, about.target)


def python(code: str) -> str:
    """The line for a shell that runs the code here: another Python on the
    path may lack our libraries."""
    return f"{_PYTHON} -c {shlex.quote(code)}"


def through(program: str, path: Path, ending: str) -> str:
    """The line for a shell that sends the file, unpacked, through a
    program to a new file beside it."""
    unpacked, place, target = (
        packings.shell(path),
        shlex.quote(str(path)),
        shlex.quote(str(made(path, ending))),
    )
    return (
        f"{unpacked} {place} | {program} > {target}"
        if unpacked
        else f"{program} < {place} > {target}"
    )


def _unpacked_name(path: Path) -> str:
    name = path.name
    while name.lower().endswith(tuple(f".{packing}" for packing in endings.PACKINGS)):
        name = name.rpartition(".")[0]
    return name


def made(path: Path, ending: str) -> Path:
    """A new file beside the path, of its name with another ending."""
    name = _unpacked_name(path)
    return _free(path.with_name(f"{name.rpartition('.')[0] or name}.{ending}"))


def _free(path: Path) -> Path:
    """The path, or the next one with a number that nothing lies at."""
    numbered = (
        path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2)
    )
    return next(
        candidate
        for candidate in itertools.chain([path], numbered)
        if not os.path.lexists(candidate)
    )
