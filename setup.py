"""Builds the kernels of portable arithmetic; everything else stands in pyproject.toml."""

from pathlib import Path

from setuptools import Extension, setup

SOURCES = Path("pellucid/kernels/src")
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

setup(
    ext_modules=[
        Extension(
            "pellucid.kernels._kernels",
            sources=sorted(path.as_posix() for path in SOURCES.glob("*.c")),
            depends=sorted(path.as_posix() for path in SOURCES.glob("*.h")),
            include_dirs=[SOURCES.as_posix()],
            extra_compile_args=FLAGS,
            extra_link_args=["-pthread"],
            optional=True,  # Without a compiler the package installs, and portable arithmetic says what is missing.
        )
    ]
)
