"""Which files of a folder a format takes: one table of endings, for every packing."""

from __future__ import annotations

from collections.abc import Iterable

PACKINGS = ("gz", "zst", "zstd", "xz", "bz2")

WORDS = {
    "text": (
        "txt text md markdown rst adoc org tex "
        "py pyx pxd pyi c h cc cpp cxx hh hpp hxx cu cuh m s S asm rs go java kt scala swift "
        "js jsx mjs ts tsx css html htm xml svg json yaml yml toml ini cfg conf sh bash zsh fish "
        "rb pl pm php lua r R jl hs ml mli fs cs vb clj el lisp scm ex exs erl sql proto "
        "cmake mk dts dtsi v sv vhd f f90 for pas ada zig nim dart tcl awk diff patch log csv tsv"
    ),
    "jsonl": "jsonl json ndjson",
    "lines": "txt lines smi smiles csv tsv",
    "json": "json",
    "csv": "csv tsv",
    "parquet": "parquet",
    "fasta": "fa fasta fas fna faa ffn frn",
    "package": "py pyx md rst txt",
}
_KNOWN = {format: frozenset(words.lower().split()) for format, words in WORDS.items()}
_PACKAGE = tuple(f".{word}" for word in WORDS["package"].split())


def of(name: str) -> str:
    """A name's last ending in lower case, a packing's passed over: "Notes.TXT.gz" ->
    "txt"; "" where it has none."""
    parts = name.rsplit("/", 1)[-1].lower().lstrip(".").split(".")
    if len(parts) > 1 and parts[-1] in PACKINGS:
        parts.pop()
    return parts[-1] if len(parts) > 1 else ""


def fits(path: str, format: str) -> bool:
    """Whether a file of a folder is the format's by its ending."""
    if format == "package":  # Its files are not unpacked.
        return path.lower().endswith(_PACKAGE)
    return of(path) in _KNOWN[format]


def bare(paths: Iterable[str], format: str) -> bool:
    """Whether files without any ending are the source's: where no file has one of the format's."""
    return format != "package" and not any(fits(path, format) for path in paths)
