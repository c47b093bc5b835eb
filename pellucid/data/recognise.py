"""What a file is by its first bytes, whatever its name, and the command that converts what no reader takes."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from pellucid.data import encodings, endings, packings

HEAD = 1 << 16


class Kind(NamedTuple):
    words: str
    target: str = ""  # The format it can be converted to: an ending.
    code: str = ""  # Of Python or awk, see command().


_DUCKDB = "import duckdb; duckdb.sql({sql})"
_AWK_GENBANK = '/^LOCUS/{print ">" $2} /^ORIGIN/{s=1; next} /^\\/\\//{s=0} s{gsub(/[^A-Za-z]/, ""); print toupper($0)}'
_AWK_FASTQ = 'NR % 4 == 1 {print ">" substr($0, 2)} NR % 4 == 2'
_WARC = (
    "import json, sys; from fastwarc.warc import ArchiveIterator, WarcRecordType; "
    "from resiliparse.parse.encoding import bytes_to_str, detect_encoding; "
    "from resiliparse.extract.html2text import extract_plain_text; "
    "pages = (one.reader.read() for one in ArchiveIterator(sys.stdin.buffer, record_types=WarcRecordType.response)); "
    '[print(json.dumps({"text": extract_plain_text(bytes_to_str(page, detect_encoding(page)))})) for page in pages]'
)
KINDS = {
    "parquet": Kind("Parquet", "jsonl", "read_parquet"),
    "csv": Kind("CSV", "jsonl", "read_csv"),
    "json_array": Kind("a JSON array", "jsonl", "read_json"),
    "json_object": Kind("one JSON object"),
    "genbank": Kind("GenBank", "fasta", _AWK_GENBANK),
    "fastq": Kind("FASTQ", "fasta", _AWK_FASTQ),
    "warc": Kind("WARC", "jsonl", _WARC),
    "fasta": Kind("FASTA"),
    "json_lines": Kind("JSON lines"),
}
READ_AS = {"fasta": "fasta", "json_lines": "jsonl"}  # The kinds that are formats of ours.
# What a file of a folder must not be for its format's reader. One that is named by itself may be read as plain text.
_STRANGE = {
    "text": ("parquet", "warc", "genbank", "fastq", "json_lines"),
    "lines": ("parquet", "warc", "genbank", "fastq"),
    "package": (),
    "jsonl": tuple(one for one in KINDS if one != "json_lines"),
    "fasta": tuple(one for one in KINDS if one != "fasta"),
}


def kind_of(path: Path, source: str) -> str:
    """A key of KINDS, or "" for anything else. Raises SourceUnreadable."""
    return recognised(packings.head(path, source, HEAD), named_csv=endings.of(path.name) in ("csv", "tsv"))


def strange(kind: str, format: str, alone: bool) -> bool:
    """Whether a reader of this format can make nothing of a file of this kind."""
    return kind == "parquet" if alone and format in ("text", "lines") else kind in _STRANGE[format]


def recognised(head: bytes, named_csv: bool = False) -> str:
    """A key of KINDS, or "", from the first HEAD bytes."""
    if head.startswith(b"PAR1"):
        return "parquet"
    head = b"".join(encodings.unmarked(iter([head]), 2))
    if head.startswith(b"WARC/"):
        return "warc"
    if re.match(rb"LOCUS {3,}\S", head):
        return "genbank"
    # Without the last line, which may be cut.
    lines = [line.rstrip(b"\r") for line in head.split(b"\n")]
    whole = lines if len(head) < HEAD else lines[:-1]
    whole = [line for line in whole if line.strip()]
    if not whole or b"\0" in head:
        return ""
    return _json(whole, head) or _biological(whole) or ("csv" if _is_csv(whole, named_csv) else "")


def _json(lines: list[bytes], head: bytes) -> str:
    start = head.lstrip()[:1]
    if start == b"[":
        return "json_array" if re.match(rb"\[\s*[\[{\"\d\]]", head.lstrip()) and not _object(lines[0]) else ""
    if start != b"{":
        return ""
    if len(lines) > 1 and all(_object(line) for line in lines[:10]):
        return "json_lines"
    return "" if _object(lines[0]) else "json_object" if len(head) < HEAD or len(lines) > 1 else ""


def _object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _biological(lines: list[bytes]) -> str:
    if lines[0].startswith(b"@") and len(lines) >= 4:
        is_read = lines[2].startswith(b"+") and len(lines[1]) == len(lines[3]) and _residues(lines[1])
        return "fastq" if is_read else ""
    noted = [line for line in lines if not line.startswith(b";")]
    if len(noted) < 2 or not noted[0].startswith(b">"):
        return ""
    body = [line for line in noted[:200] if not line.startswith(b">")]
    return "fasta" if body and all(map(_residues, body)) and sum(map(len, body)) >= 20 else ""


_residues = re.compile(rb"(?:[A-Z*.-]+|[acgtun-]+)(?: (?:[A-Z*.-]+|[acgtun-]+))*\s*").fullmatch


def _is_csv(lines: list[bytes], named: bool) -> bool:
    """Rows of equally many fields under a line of short names; without the ending's word, more of them."""
    text = [line.decode("utf-8", "replace") for line in lines]
    for delimiter in ",\t;":
        rows = list(_rows(text, delimiter))
        widths = {len(row) for row in rows}
        if len(widths) == 1 and widths.pop() > 1 and len(rows) >= (2 if named else 5):
            names = rows[0]
            short = all(re.fullmatch(r"\s*[\w.()/%#-]+(?: [\w.()/%#-]+){0,2}\s*", name) for name in names)
            if short and len(set(names)) == len(names):
                return True
    return False


def _rows(lines: list[str], delimiter: str) -> list[list[str]]:
    try:
        rows = list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        return []
    return rows[:-1] if len(rows) > 6 else rows  # A field of the last may hold line breaks, and be cut.


def advice(kind: str, path: Path) -> str:
    """What to do with a file of this kind, as the end of a message."""
    if kind in READ_AS:
        return f'Read it as such: format = "{READ_AS[kind]}" (on the command line --data {READ_AS[kind]}:PATH)'
    if kind == "json_object":
        return 'Give a file with one JSON object a line, or take it as it is: format = "text"'
    return f"Convert it with: {command(kind, path)}"


def command(kind: str, path: Path) -> str:
    """The line for a shell that converts the file, beside it, to a format that is read."""
    about = KINDS[kind]
    name = path.name
    while name.lower().endswith(tuple(f".{packing}" for packing in endings.PACKINGS)):
        name = name.rpartition(".")[0]
    stem = name.rpartition(".")[0] or name
    target = shlex.quote(str(path.with_name(f"{stem}.{about.target}")))
    unpacked, place = packings.shell(path), shlex.quote(str(path))
    if kind == "warc":  # Its reader unpacks by itself.
        return f"pip install fastwarc resiliparse; python -c {shlex.quote(about.code)} < {place} > {target}"
    if kind in ("genbank", "fastq"):
        awk = f"awk {shlex.quote(about.code)}"
        return f"{unpacked} {place} | {awk} > {target}" if unpacked else f"{awk} {place} > {target}"
    plain = path.with_name(name) if unpacked else path
    first = f"{unpacked} {place} > {shlex.quote(str(plain))}; " if unpacked else ""
    given, to = (f"$${one}$$" for one in (plain, path.with_name(f"{stem}.{about.target}")))
    sql = f"copy (from {about.code}({given})) to {to} (format json)"
    return f"{first}python -c {shlex.quote(_DUCKDB.format(sql=json.dumps(sql, ensure_ascii=False)))}"
