"""The golden digests: from other compilers' flags, of another processor, all without Python."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

import pytest

from pellucid.kernels import library
from tests.kernels.machine import (
    C_FILES,
    CROSS,
    PROGRAM,
    SOURCES,
    compile_c,
    compiler,
    isas,
    run_program,
)


def golden(name: str) -> dict[str, str]:
    """quick_golden or whole_golden: {operation: digest}."""
    table = (SOURCES / "golden.h").read_text().partition(f"{name}[] = {{")[2].partition("};")[0]
    return dict(re.findall(r'\{"(.+)", (0x\w+)\}', table))


def digests(output: str) -> dict[str, str]:
    return dict(re.findall(r"^(.+?) +(0x\w{16})$", output, re.MULTILINE))


def assert_golden(*program: str | Path, isa: str, threads: int) -> None:
    output = run_program(*program, isa, str(threads))
    assert output.endswith(f"\n{isa}: golden\n")
    assert digests(output) == golden("whole_golden")
    quick = run_program(*program, "quick", isa, str(threads))
    assert digests(quick) == golden("quick_golden")


def test_every_instruction_set_here_with_one_to_three_threads(tmp_path: Path) -> None:
    program = compile_c(tmp_path / "golden", "-O2", *C_FILES, PROGRAM, with_compiler=compiler())
    for isa, threads in itertools.product(isas(), (1, 2, 3)):
        assert_golden(program, isa=isa, threads=threads)
    run_program(program, "z80", check=2)


def installed() -> tuple[Path, str]:
    """What a program is linked with to use the library that is installed."""
    library_file = library.FOLDER / "_kernels.so"
    return library_file, f"-Wl,-rpath,{library_file.parent}"


def test_the_library_that_is_installed(tmp_path: Path) -> None:
    program = compile_c(tmp_path / "golden", PROGRAM, *installed(), with_compiler=compiler())
    for isa in isas():
        assert_golden(program, isa=isa, threads=2)


def test_another_processor_gives_the_same_digests(tmp_path: Path) -> None:
    """64-bit ARM, emulated where it is not what this machine is."""
    arm = CROSS["aarch64"]
    gcc, qemu = compiler(arm.gcc, arm.packages), compiler(arm.qemu, arm.packages)
    program = compile_c(tmp_path / "golden", "-O2", "-static", *C_FILES, PROGRAM, with_compiler=gcc)
    assert_golden(qemu, program, isa="neon", threads=2)
    assert_golden(qemu, program, isa="scalar", threads=2)


@pytest.mark.parametrize("words", [(), ("quick",)])
def test_a_digest_that_was_changed_or_removed_is_noticed(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    """By another selftest.c before the library's own."""
    for name in ("kernels.h", "selftest.c"):
        shutil.copy(SOURCES / name, tmp_path)
    text = (SOURCES / "golden.h").read_text()
    name, digest = list(golden("quick_golden" if words else "whole_golden").items())[-2]
    line = f'    {{"{name}", {digest}}},\n'
    assert line in text
    changed = line.replace(digest, f"0x{int(digest, 16) ^ 1:016x}")
    for wrong in (
        text.replace(line, changed),
        text.replace(line, ""),
        text.replace(line, line + line),
    ):
        (tmp_path / "golden.h").write_text(wrong)
        files = tmp_path / "selftest.c", PROGRAM, *installed()
        program = compile_c(tmp_path / "golden", *files, with_compiler=compiler(), sources=tmp_path)
        assert digests(run_program(program, *words, isas()[0], "1", check=1))[name] == digest
