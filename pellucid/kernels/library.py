"""The C library: found, told its instruction set and threads, and tested before its first use."""

from __future__ import annotations

import ctypes
import functools
import json
import os
from pathlib import Path

from pellucid.errors import (
    KernelsMissing,
    KernelsStale,
    KernelsUncompiled,
    KernelsWrong,
    MachineLacks,
)
from pellucid.kernels import sources

FOLDER = Path(__file__).parent
VARIABLE = "PELLUCID_ISA"
KNOWN = ("avx512", "avx2", "neon", "scalar", "software")

_LONG, _DOUBLE, _INT, _POINTER = ctypes.c_long, ctypes.c_double, ctypes.c_int, ctypes.c_void_p
# Of every function that returns whether it failed: one letter an argument.
_LETTERS = {"n": _LONG, "d": _DOUBLE, "p": _POINTER, "u": ctypes.c_uint64}
_SIGNATURES = {
    "product": "nnnpnnpnnpp",
    "gram": "nnpnnp",
    "norm": "nnppdpp",
    "norm_backward": "nnppppppp",
    "swiglu": "nppp",
    "swiglu_backward": "nppppp",
    "attention": "nnnnnppppppppp",
    "attention_backward": "nnnnnppppppppppppp",
    "attention_kept": "nnnnnnppppppp",
    "loss": "nnnppppppppp",
    "embed": "nnppp",
    "embed_backward": "nnnppp",
    "add": "nppp",
    "axpby": "ndpdp",
    "sum_of_squares": "npp",
    "adamw": "ndddddndppppp",
    "rotary_table": "nndpp",
    "initial_values": "unnddp",
}


def load(path: Path | None = None) -> ctypes.CDLL:
    """The shared object with its functions declared; nothing is started.

    Without a path, the installed one, which must be of the installed sources. Raises
    KernelsMissing, KernelsStale."""
    if path is not None:
        return _opened(path)
    built = FOLDER / "_kernels.so"
    if not built.is_file():
        raise _missing()
    library = _opened(built)
    if library.pellucid_sources().decode() != sources.digest(FOLDER / "src"):
        raise KernelsStale(path=built, folder=FOLDER / "src")
    return library


def _opened(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
        _declare(library)
    # AttributeError: a function that this version calls and the library lacks.
    except (OSError, AttributeError) as error:
        raise KernelsMissing(detail=f"{path} cannot be loaded: {error}") from error
    return library


def _declare(library: ctypes.CDLL) -> None:
    for name, letters in _SIGNATURES.items():
        function = getattr(library, f"pellucid_{name}")
        function.argtypes, function.restype = [_LETTERS[letter] for letter in letters], _INT
    library.pellucid_sources.restype = ctypes.c_char_p
    library.pellucid_best.restype = ctypes.c_char_p
    library.pellucid_start.argtypes = [ctypes.c_char_p, _INT]
    library.pellucid_self_test.argtypes, library.pellucid_self_test.restype = (
        [_INT],
        ctypes.c_char_p,
    )
    library.pellucid_norm_of.argtypes, library.pellucid_norm_of.restype = [_LONG, _POINTER], _DOUBLE
    library.pellucid_function.argtypes = [_INT, _DOUBLE, _DOUBLE]
    library.pellucid_function.restype = _DOUBLE


def _missing() -> KernelsMissing:
    """Why there is no library, by what the build has left (setup.py)."""
    log = FOLDER / "_kernels.log"
    if not log.is_file():
        return KernelsMissing(detail=f"there is no _kernels.so in {FOLDER}")
    about = json.loads(log.read_text(encoding="utf-8"))
    if not about["found"]:
        return KernelsMissing(detail=f"the compiler {about['compiler']} was missing")
    lines = about["words"].strip().splitlines()
    error = next((line for line in lines if "error: " in line), lines[-1])
    return KernelsUncompiled(words=error.strip(), compiler=about["compiler"], path=log)


@functools.cache
def kernels() -> ctypes.CDLL:
    """The library, started with one thread and tested. Raises KernelsMissing,
    MachineLacks, KernelsWrong."""
    library = load()
    start(library, isa(library), 1)
    wrong = library.pellucid_self_test(0)
    if wrong is not None:
        raise KernelsWrong(isa=isa(library), operation=wrong.decode())
    return library


def isa(library: ctypes.CDLL) -> str:
    """The instruction set that is used: the one asked for, or the best this machine has."""
    return os.environ.get(VARIABLE) or library.pellucid_best().decode()


def start(library: ctypes.CDLL, name: str, threads: int) -> int:
    """Take an instruction set and so many threads; returns how many
    there are. Raises MachineLacks."""
    got = library.pellucid_start(name.encode(), threads)
    if not got:
        raise MachineLacks(
            variable=VARIABLE,
            name=name,
            known=", ".join(KNOWN),
            best=library.pellucid_best().decode(),
        )
    return got


def set_threads(threads: int) -> None:
    """How many threads work from now on. No bit depends on it."""
    library = kernels()
    start(library, isa(library), threads)


def keep_memory() -> None:
    """Freed memory stays with this process: training wants the same again at every
    step (docs/log.md, 2026-11-24)."""
    kernels().pellucid_keep_memory()
