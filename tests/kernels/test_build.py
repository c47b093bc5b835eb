"""What installing the package does with the user's compiler and flags, and
what is said where it failed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pellucid import journal
from pellucid.errors import KernelsMissing, KernelsStale, KernelsUncompiled
from pellucid.kernels import library
from tests.conftest import lacks
from tests.kernels.machine import (
    ENVIRONMENT,
    ROOT,
    SOURCES,
    build_flags,
    compiler,
    isas,
    of_libm,
    tool,
)

KERNELS = Path("pellucid/kernels")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The part of this project that the library is built from, nothing built; the
    library is looked for there."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(SOURCES, tmp_path / KERNELS / "src")
    inits = ("pellucid/__init__.py", "pellucid/kernels/__init__.py")
    for name in (*inits, "pellucid/LICENSE", "pellucid/kernels/sources.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(library, "FOLDER", tmp_path / KERNELS)
    return tmp_path


def build(folder: Path, **environment: str) -> None:
    """As an editable installation does; it succeeds, whatever becomes of the library."""
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def no_library() -> KernelsMissing:
    with pytest.raises(KernelsMissing) as caught:
        library.load()
    return caught.value


def test_what_did_not_compile_is_told_in_the_compilers_words(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = list((project / KERNELS / "src").glob("*.c"))
    build(project, CC=compiler(), CFLAGS="-D__FAST_MATH__")
    error = no_library()
    assert type(error) is KernelsUncompiled
    assert re.search(
        r"did not compile .*kernels\.h:\d+:\d+: error: .*-ffast-math.* The full output of gcc is",
        str(error),
    )
    (project / "pellucid/journal.py").touch()
    monkeypatch.setattr(journal, "__file__", str(project / "pellucid/journal.py"))
    assert b"_kernels.log" not in journal.code_archive()  # It names this machine's folders.
    assert '#error "portable arithmetic cannot' in Path(
        str(error.fields["path"])
    ).read_text().replace("\\", "")

    for source in sources:  # Once it compiles, nothing is left of that.
        source.write_text("")
    build(project, CC=compiler())
    assert [path.suffix for path in (project / KERNELS).glob("_kernels*")] == [".so"]
    assert "cannot be loaded" in str(no_library())  # It has no function.

    sources[0].write_text("int x = y;\n")  # A library of other sources does not stay.
    build(project, CC=compiler())
    assert re.search(r"did not compile .*error: .y. undeclared", str(no_library()))


def test_a_library_of_other_sources_is_refused(project: Path) -> None:
    """Its functions may take other arguments: a call could end the process."""
    built = ROOT / KERNELS / "_kernels.so"
    shutil.copy(built, project / KERNELS)
    library.load()
    with (project / KERNELS / "src/update.h").open("a", encoding="utf-8") as file:
        file.write("/* New. */\n")
    with pytest.raises(
        KernelsStale, match=r"other C sources .*Rebuild them in a checkout: pip install"
    ):
        library.load()


def test_no_compiler_is_another_thing(project: Path) -> None:
    build(project, CC="/nowhere/cc")
    error = no_library()
    assert type(error) is KernelsMissing
    assert "the compiler /nowhere/cc was missing. Install a C compiler" in str(error)


@pytest.mark.slow
def test_a_wheel_keeps_the_compilers_words(project: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        ".",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        "wheels",
        "-q",
    ]
    subprocess.run(
        command, cwd=project, env={**os.environ, "CFLAGS": "-D__FAST_MATH__"}, check=True
    )
    (wheel,) = (project / "wheels").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(project / "installed")
    library.FOLDER = project / "installed" / KERNELS  # monkeypatch, in the fixture, puts it back.
    assert type(no_library()) is KernelsUncompiled


@pytest.mark.slow
def test_a_library_built_for_this_very_cpu_is_golden(project: Path) -> None:
    build(project, CC=tool("gcc", "gcc"), CFLAGS="-march=native")
    built = library.load()
    for isa in isas():
        library.start(built, isa, 2)
        assert built.pellucid_self_test(1) is None, isa


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flags are x86-64's")
@pytest.mark.parametrize(
    ("flags", "fits"), [(("-mavx512fp16",), True), (("-m32", "-mfpmath=387"), False)]
)
def test_flags_of_the_users_own(tmp_path: Path, flags: tuple[str, ...], fits: bool) -> None:
    """With FP16 instructions GCC's FLT_EVAL_METHOD is 16: float rounds to float as
    ever. On the 387 it does not."""
    program = tmp_path / "one.c"
    program.write_text('#include "kernels.h"\n')
    check = [
        compiler(),
        *flags,
        *build_flags(),
        "-ffreestanding",
        f"-I{SOURCES}",
        "-fsyntax-only",
        str(program),
    ]
    done = subprocess.run(check, capture_output=True, text=True)
    if "unrecognized command-line option" in done.stderr:
        lacks("this compiler does not know these instructions")
    assert (done.returncode == 0) is fits, done.stderr
    assert fits or "FLT_EVAL_METHOD" in done.stderr


@pytest.mark.skipif(platform.system() != "Linux", reason="looks into ELF files")
def test_the_library_takes_nothing_of_libm() -> None:
    path = library.FOLDER / "_kernels.so"
    assert of_libm(path, compiler(), "nm") <= ENVIRONMENT
