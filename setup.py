"""Builds the kernels of portable arithmetic; everything else stands in pyproject.toml."""

import contextlib
import json
import os
import re
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCES = Path("pellucid/kernels/src")
# The library says which sources it was built from: pellucid/kernels/library.py compares.
digest = runpy.run_path("pellucid/kernels/sources.py")["digest"]
# Beside the library's place where it was not built: pellucid/kernels/library.py reads it.
LOG = "_kernels.log"
LIBRARY = "_kernels.so"  # Of every system and every Python: ctypes loads it.
# Ours come after the user's CFLAGS, so that no flag of theirs can change a bit.
FLAGS = [
    "-O3",
    "-std=gnu11",
    "-fno-fast-math",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=default",
]


class BuildKernels(build_ext):
    """Keeps what the compiler says: where a build is optional, nobody sees
    it, and it is wanted later."""

    failed: str = ""  # What LOG holds.

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")[:-1], LIBRARY))

    def run(self) -> None:
        super().run()
        for extension in self.extensions:
            library = Path(self.get_ext_fullpath(extension.name))
            log = library.with_name(LOG)
            log.unlink(missing_ok=True)
            if self.failed:
                library.unlink(missing_ok=True)  # Of other sources: an earlier build's.
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_text(self.failed, encoding="utf-8")

    def build_extension(self, ext: Extension) -> None:
        words: list[str] = []
        try:
            with _heard(words):
                super().build_extension(ext)
        except Exception as error:
            compiler = self.compiler.compiler_so[0]
            found = shutil.which(compiler) is not None
            self.failed = json.dumps(
                {"compiler": compiler, "found": found, "words": words[0] or str(error)}
            )
            raise  # setuptools makes it a warning.


@contextlib.contextmanager
def _heard(words: list[str]):
    """What this process and its children write to standard error,
    which still gets it, at the end."""
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            words.append(file.read().decode("utf-8", "replace"))
            sys.stderr.write(words[0])


class Wheel(bdist_wheel):
    """One wheel for every Python, since the library knows nothing of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", self._glibc(super().get_tag()[2])

    def _glibc(self, platform: str) -> str:
        """The platform by the newest glibc symbol that the library takes; PEP 600. As it was where
        nothing is built yet, or not for glibc."""
        command = self.get_finalized_command("build_ext")
        built = Path(command.build_lib)  # type: ignore[attr-defined]
        library = built / "pellucid/kernels" / LIBRARY
        versions = re.findall(rb"GLIBC_2\.(\d+)", library.read_bytes()) if library.exists() else []
        if not versions or not platform.startswith("linux_"):
            return platform
        return f"manylinux_2_{max(17, *map(int, versions))}_{platform.removeprefix('linux_')}"


setup(
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
    ext_modules=[
        Extension(
            "pellucid.kernels._kernels",
            sources=sorted(path.as_posix() for path in SOURCES.glob("*.c")),
            depends=sorted(path.as_posix() for path in SOURCES.glob("*.h")),
            include_dirs=[SOURCES.as_posix()],
            libraries=["m"],  # For fenv.h alone, which is a part of it on some machines.
            define_macros=[("PELLUCID_SOURCES", f'"{digest()}"')],
            extra_compile_args=FLAGS,
            extra_link_args=["-pthread"],
            # Without a compiler the package installs, and portable arithmetic says what is missing.
            optional=True,
        )
    ],
)
