"""The golden digests on other processors, under emulation, and of other
compilers and flags: make test-all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels.machine import (
    C_FILES,
    CROSS,
    ENVIRONMENT,
    PROGRAM,
    compile_c,
    isas,
    of_libm,
    tool,
)
from tests.kernels.test_golden import assert_golden

pytestmark = pytest.mark.slow


# The processor, the compiler's further flags, and the instruction set of the kernels.
MACHINES = {
    "riscv64": (CROSS["riscv64"], (), "scalar"),
    "ppc64le": (CROSS["ppc64le"], (), "scalar"),
    "armhf": (CROSS["armhf"], (), "scalar"),
    "i686": (CROSS["i686"], ("-msse2", "-mfpmath=sse"), "scalar"),
    "s390x, big-endian": (CROSS["s390x"], (), "scalar"),
    "ARM with FP16": (CROSS["aarch64"], ("-mcpu=neoverse-n1",), "neon"),
}


@pytest.mark.parametrize("name", MACHINES)
def test_an_emulated_machine(tmp_path: Path, name: str) -> None:
    machine, flags, isa = MACHINES[name]
    gcc, qemu = tool(machine.gcc, machine.packages), tool(machine.qemu, machine.packages)
    program = compile_c(
        tmp_path / "golden", "-O2", "-static", *flags, *C_FILES, PROGRAM, with_compiler=gcc
    )
    assert_golden(qemu, program, isa=isa, threads=2)


@pytest.mark.parametrize("name", MACHINES)
def test_nothing_of_libm_computes(tmp_path: Path, name: str) -> None:
    machine, flags, _ = MACHINES[name]
    gcc, shared = tool(machine.gcc, machine.packages), ("-O1", "-shared", "-fPIC")
    library = compile_c(tmp_path / "kernels.so", *shared, *flags, *C_FILES, with_compiler=gcc)
    assert of_libm(library, gcc, machine.nm) <= ENVIRONMENT


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [
        ("clang-14", ("-O3",)),
        ("clang-19", ("-O3",)),
        ("gcc", ("-O3", "-flto=auto")),
        ("gcc", ("-O3", "-march=native")),
    ],
)
def test_another_compiler_or_its_flags(
    tmp_path: Path, compiler: str, flags: tuple[str, ...]
) -> None:
    tool(compiler, compiler)
    program = compile_c(tmp_path / "golden", *flags, *C_FILES, PROGRAM, with_compiler=compiler)
    for isa in isas():
        assert_golden(program, isa=isa, threads=2)
