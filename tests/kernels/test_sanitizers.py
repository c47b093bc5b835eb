"""All golden digests again, in programs that stop at a wrong address,
undefined behaviour or a race."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels.machine import C_FILES, PROGRAM, compile_c, compiler, isas, run_program

# The best instruction set here: intrinsics, and all that is common.
# "software": C, and the fma of our own.
CASES = [("address,undefined", ("best", "software")), ("thread", ("best",))]


@pytest.mark.parametrize(("sanitizers", "names"), CASES)
def test_sanitizers_find_nothing(tmp_path: Path, sanitizers: str, names: tuple[str, ...]) -> None:
    gcc, flags = compiler(), [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    watched = {isas()[0] if name == "best" else name for name in names}
    objects = []
    for source in [*C_FILES, PROGRAM]:
        isa = source.stem.removeprefix("isa_") if source.stem.startswith("isa_") else None
        # C without intrinsics takes half a minute to compile with both sanitizers and optimisation.
        how = (
            ["-O0"]
            if isa and isa not in watched
            else ["-O0" if isa == "software" else "-O1", *flags]
        )
        objects.append(
            compile_c(tmp_path / f"{source.stem}.o", *how, "-c", source, with_compiler=gcc)
        )
    program = compile_c(tmp_path / "golden", *flags, *objects, with_compiler=gcc)
    for isa in watched:
        for words in (
            [("quick", isa, "3"), (isa, "2")] if isa == isas()[0] else [("quick", isa, "3")]
        ):
            assert run_program(program, *words).endswith(f"\n{isa}: golden\n")
