"""Wheels: what a machine without a compiler installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pellucid import __version__
from pellucid.look.status import status
from pellucid.release.verify import verify
from tests.conftest import finish, make_run
from tests.kernels.machine import CROSS, PROGRAM, ROOT, compile_c, run_program, tool


def wheel(to: Path, *options: str, **environment: str) -> Path:
    """The wheel that setup.py makes of a copy of this project."""
    source = to / "source"
    shutil.copytree(ROOT / "pellucid", source / "pellucid", ignore=shutil.ignore_patterns("*.so"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "-d", str(to / "dist"), *options]
    subprocess.run(command, cwd=source, env={**os.environ, **environment}, check=True)
    (made,) = (to / "dist").iterdir()
    return made


def files_of(folder: Path) -> set[Path]:
    """The files of the package in a folder but for what a compiler, or Python, makes."""
    paths = (path for path in (folder / "pellucid").rglob("*") if path.is_file())
    made = (".so", ".log", ".pyc")
    return {path.relative_to(folder) for path in paths if path.suffix not in made}


@pytest.mark.slow
def test_an_installed_wheel_trains_where_there_is_no_compiler(
    tmp_path: Path, corpus: Path, finished: Path
) -> None:
    made = wheel(tmp_path, CC=tool("gcc", "gcc"))
    assert made.name.startswith(f"pellucid-{__version__}-py3-none-manylinux_2_")
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target"]
    subprocess.run([*pip, installed, made], check=True)
    assert files_of(installed) == files_of(ROOT), "every file of the package, the site's too"
    folder = make_run(tmp_path / "small", corpus)
    environment = {**os.environ, "PATH": str(tmp_path / "nothing"), "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "pellucid", "run", str(folder)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert status(folder)["head"] == status(finished)["head"]
    assert verify(finish(folder), lambda words: None).ok


@pytest.mark.slow
def test_a_wheel_for_arm_has_golden_kernels(tmp_path: Path) -> None:
    arm = CROSS["aarch64"]
    gcc, qemu = tool(arm.gcc, arm.packages), tool(arm.qemu, arm.packages)
    shared = f"{gcc} -shared"
    made = wheel(tmp_path, "--plat-name", "linux_aarch64", CC=gcc, LDSHARED=shared)
    assert made.name.endswith("_aarch64.whl") and "-py3-none-manylinux_2_" in made.name
    zipfile.ZipFile(made).extract("pellucid/kernels/_kernels.so", tmp_path)
    library = tmp_path / "pellucid/kernels/_kernels.so"
    where = f"-Wl,-rpath,{library.parent}"
    program = compile_c(tmp_path / "golden", PROGRAM, library, where, with_compiler=gcc)
    for isa in ("neon", "scalar"):
        run_program(qemu, "-L", f"/usr/{arm.prefix}", program, "quick", isa)
