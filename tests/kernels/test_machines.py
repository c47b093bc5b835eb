"""The golden digests on other processors, under emulation, and of other
compilers and flags: make test-all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernels.machine import C_FILES, ENVIRONMENT, PROGRAM, compile_c, isas, of_libm, tool
from tests.kernels.test_golden import assert_golden

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Machine:
    """One that GCC builds for and qemu plays; its Debian packages."""

    gcc: str
    qemu: str
    packages: str
    flags: tuple[str, ...] = ()
    isa: str = "scalar"


MACHINES = {
    "riscv64": Machine(
        "riscv64-linux-gnu", "riscv64", "gcc-riscv64-linux-gnu libc6-dev-riscv64-cross"
    ),
    "ppc64le": Machine(
        "powerpc64le-linux-gnu", "ppc64le", "gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross"
    ),
    "armhf": Machine("arm-linux-gnueabihf", "arm", "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"),
    "i686": Machine(
        "i686-linux-gnu",
        "i386",
        "gcc-i686-linux-gnu libc6-dev-i386-cross",
        ("-msse2", "-mfpmath=sse"),
    ),
    "s390x, big-endian": Machine(
        "s390x-linux-gnu", "s390x", "gcc-s390x-linux-gnu libc6-dev-s390x-cross"
    ),
    "ARM with FP16": Machine(
        "aarch64-linux-gnu",
        "aarch64",
        "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
        ("-mcpu=neoverse-n1",),
        "neon",
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_an_emulated_machine(tmp_path: Path, name: str) -> None:
    machine = MACHINES[name]
    gcc = tool(f"{machine.gcc}-gcc", machine.packages)
    qemu = tool(f"qemu-{machine.qemu}-static", "qemu-user-static")
    program = compile_c(
        tmp_path / "golden", "-O2", "-static", *machine.flags, *C_FILES, PROGRAM, with_compiler=gcc
    )
    assert_golden(qemu, program, isa=machine.isa, threads=2)


@pytest.mark.parametrize("name", MACHINES)
def test_nothing_of_libm_computes(tmp_path: Path, name: str) -> None:
    machine = MACHINES[name]
    gcc = tool(f"{machine.gcc}-gcc", machine.packages)
    flags = ("-O1", "-shared", "-fPIC", *machine.flags)
    library = compile_c(tmp_path / "kernels.so", *flags, *C_FILES, with_compiler=gcc)
    assert of_libm(library, gcc, f"{machine.gcc}-nm") <= ENVIRONMENT


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
