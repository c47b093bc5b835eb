"""What this machine has: instruction sets and compilers."""

from __future__ import annotations

import ast
import functools
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pellucid.errors import MachineLacks
from pellucid.kernels import library
from tests.conftest import lacks
from tests.kernels.values import assert_same

ROOT = Path(__file__).parents[2]
SOURCES = library.FOLDER / "src"
C_FILES = sorted(SOURCES.glob("*.c"))
PROGRAM = Path(__file__).with_name("golden.c")


@functools.cache
def isas() -> tuple[str, ...]:
    """The instruction sets that run here; the best one stays chosen."""
    return tuple(name for name in library.KNOWN if _runs(name))


def _runs(name: str) -> bool:
    try:
        library.start(library.kernels(), name, 1)
    except MachineLacks:
        return False
    library.set_threads(1)
    return True


def assert_everywhere(
    call: Callable[[], object], wanted: tuple, threads: tuple[int, ...] = (1,)
) -> None:
    """Every instruction set gives what is wanted, with every number of threads."""
    for isa in isas():
        for count in threads:
            assert library.start(library.kernels(), isa, count) == count
            got = call()
            got = got if isinstance(got, tuple) else (got,)
            for index, (one, right) in enumerate(zip(got, wanted, strict=True)):
                assert_same(one, right, f"{isa}, {count} threads, result {index}")


def compiler(name: str = "gcc", packages: str = "gcc") -> str:
    """Where it is missing the test says what to install: it fails in CI, which has
    it, and elsewhere is skipped."""
    if not shutil.which(name):
        lacks(f"needs {name}; Debian: apt install {packages}")
    return name


def tool(name: str, packages: str) -> str:
    """As compiler, of a slow test: whoever asks for those wants to know that one did not run."""
    if not shutil.which(name):
        pytest.fail(f"needs {name}; Debian: apt install {packages}")
    return name


@dataclass(frozen=True)
class Cross:
    """A processor that GCC builds for and qemu plays, by the prefix of the compiler's tools, the
    ending of qemu's and the Debian packages of both."""

    prefix: str
    played: str
    libraries: str

    @property
    def gcc(self) -> str:
        return f"{self.prefix}-gcc"

    @property
    def nm(self) -> str:
        return f"{self.prefix}-nm"

    @property
    def qemu(self) -> str:
        return f"qemu-{self.played}-static"

    @property
    def packages(self) -> str:
        return f"gcc-{self.prefix} {self.libraries} qemu-user-static"


CROSS = {
    "aarch64": Cross("aarch64-linux-gnu", "aarch64", "libc6-dev-arm64-cross"),
    "armhf": Cross("arm-linux-gnueabihf", "arm", "libc6-dev-armhf-cross"),
    "i686": Cross("i686-linux-gnu", "i386", "libc6-dev-i386-cross"),
    "ppc64le": Cross("powerpc64le-linux-gnu", "ppc64le", "libc6-dev-ppc64el-cross"),
    "riscv64": Cross("riscv64-linux-gnu", "riscv64", "libc6-dev-riscv64-cross"),
    "s390x": Cross("s390x-linux-gnu", "s390x", "libc6-dev-s390x-cross"),
}


@functools.cache
def build_flags() -> tuple[str, ...]:
    """Those of setup.py but for the optimisation, which every test chooses for itself."""
    assignments = [
        node
        for node in ast.parse((ROOT / "setup.py").read_text()).body
        if isinstance(node, ast.Assign)
    ]
    flags = {
        node.targets[0].id: node.value
        for node in assignments
        if isinstance(node.targets[0], ast.Name)
    }["FLAGS"]
    return tuple(flag for flag in ast.literal_eval(flags) if not flag.startswith("-O"))


def compile_c(
    out: Path, *arguments: str | Path, with_compiler: str = "gcc", sources: Path = SOURCES
) -> Path:
    """The flags of setup.py, then the arguments."""
    command = [
        with_compiler,
        *build_flags(),
        "-pthread",
        f"-I{sources}",
        *map(str, arguments),
        "-o",
        str(out),
        "-lm",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def run_program(*words: str | Path, check: int = 0) -> str:
    """Its output; check is the exit code expected."""
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == check, done.stdout + done.stderr
    return done.stdout


# What the library may take of libm, which is linked for fenv.h: nothing that computes. A function
# of it would be found without a word, and give other bits on another machine.
ENVIRONMENT = {"fegetenv", "fesetenv", "__fe_dfl_env"}


def of_libm(path: Path, gcc: str, nm: str) -> set[str]:
    """The names that a shared library takes of its machine's libm."""
    libm = run_program(gcc, "-print-file-name=libm.so.6").strip()
    offered = _symbols(nm, libm, "--defined-only")
    assert {"fegetenv", "sqrtf"} <= offered
    return _symbols(nm, path, "--undefined-only") & offered


def _symbols(nm: str, path: Path | str, which: str) -> set[str]:
    lines = run_program(nm, "-D", which, path).splitlines()
    return {line.split()[-1].partition("@")[0] for line in lines}
