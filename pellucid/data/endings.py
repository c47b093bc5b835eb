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
    "fasta": "fa fasta fas fna faa ffn frn",
    "package": "py pyx md rst txt",
}
_UNPACKED = frozenset({"text", "package"})  # In pipeline 1; it knew gz and zst of the others.
_FIRST = {
    format: tuple(
        f".{word}{packed}"
        for word in words.split()
        for packed in (("",) if format in _UNPACKED else ("", ".gz", ".zst"))
    )
    for format, words in WORDS.items()
}
_KNOWN = {format: frozenset(words.lower().split()) for format, words in WORDS.items()}


def of(name: str) -> str:
    """A name's last ending in lower case, a packing's passed over: "Notes.TXT.gz" -> "txt"; "" where it has none."""
    parts = name.rsplit("/", 1)[-1].lower().lstrip(".").split(".")
    if len(parts) > 1 and parts[-1] in PACKINGS:
        parts.pop()
    return parts[-1] if len(parts) > 1 else ""


def fits(path: str, format: str, pipeline: int) -> bool:
    """Whether a file of a folder is the format's by its ending."""
    if pipeline == 1:
        return path.endswith(_FIRST[format])
    if format == "package":
        return path.lower().endswith(_FIRST[format])
    return of(path) in _KNOWN[format]


def bare(paths: Iterable[str], format: str, pipeline: int) -> bool:
    """Whether files without any ending are the source's: where no file has one of the format's."""
    return pipeline > 1 and format != "package" and not any(fits(path, format, pipeline) for path in paths)
