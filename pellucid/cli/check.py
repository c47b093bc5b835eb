"""Check: verify, prove, check-proof."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli.common import (
    HERE,
    Json,
    RunOrUrl,
    Step,
    new_file,
    on_terminal,
    print_json,
    step_number,
    teaches,
)
from pellucid.errors import CommandInvalid, VerifyFailed
from pellucid.store import files
from pellucid.store.file_kinds import unfit
from pellucid.store.home import home, is_url
from pellucid.terminal import plain

if TYPE_CHECKING:
    from pellucid.record.verdict import Problem
    from pellucid.release.verify import Report

_SHOWN = 10  # Names of what is no part of a run; --json has all.


@teaches(
    """Check files, chains, data, batches, numbers and states, without a replay. Needs no torch.

    pellucid verify mymodel

    pellucid verify https://example.org/mymodel --sample 5%

    At an address, files alone are checked, against the manifest: all of them, or a sample. Bring
    the release here to check the rest: pellucid download URL DIR.
    """
)
def verify(
    run: RunOrUrl = ".",
    sample: Annotated[
        str,
        typer.Option(
            metavar="SHARE",
            help="At an address: a share of the files, as 5%, or so many, as 20.",
            show_default="all files",
        ),
    ] = "",
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Chooses the files of a sample.", show_default="drawn anew"),
    ] = None,
    as_json: Json = False,
) -> None:
    if is_url(run):
        _verify_files(run, sample or "100%", seed, as_json)
        return
    if sample:
        raise CommandInvalid(verb="verify", word=sample, detail="--sample is for an address")
    _verify(Path(run), as_json)


def _verify_files(url: str, share: str, seed: int | None, as_json: bool) -> None:
    from pellucid.places.sample import sample
    from pellucid.store.remote import RemotePath

    source = home(url)
    assert isinstance(source, RemotePath)
    with on_terminal() as terminal:
        done = sample(source, share, seed, terminal.progress)
    if as_json:
        print_json(done.as_json())
    else:
        verdict = _told(done.problems)
        print(
            f"verify: {verdict}: {done.files:,} of {done.total:,} files read, "
            f"{done.bytes / 1e6:,.1f} of {done.total_bytes / 1e6:,.1f} MB, chosen by seed "
            f"{done.seed}"
        )
        print("not checked: other files, the chains, data, batches, numbers and states")
        print(plain(f"all of it: pellucid download {url} DIR && pellucid verify DIR"))
    if not done.ok:
        fix = "Do not trust this place. Take the release from another one."
        raise VerifyFailed(path=url, count=len(done.problems), fix=fix)


def _verify(folder: Path, as_json: bool) -> None:
    from pellucid.release.verify import verify

    report = verify(folder, lambda what: None)
    if as_json:
        print_json(report.as_json())
    else:
        verdict = _told(report.problems)
        sealed = "" if report.sealed else " (not sealed: no manifest to compare the files with)"
        print(f"verify: {verdict} in {report.seconds:.2f} s: {', '.join(report.checked)}{sealed}")
        if report.unlisted:
            more = len(report.unlisted) - _SHOWN
            names = ", ".join(report.unlisted[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
            print(plain(f"{len(report.unlisted)} not part of the run and not checked: {names}"))
    if not report.ok:
        raise VerifyFailed(path=folder, count=len(report.problems), fix=_fix(folder, report))


def _told(problems: list[Problem]) -> str:
    """Prints each problem; the verdict."""
    for problem in problems:
        print(plain(f"{problem.error}: {problem.where}: {problem.detail}"))
    return f"{len(problems)} problem(s)" if problems else "ok"


def _fix(folder: Path, report: Report) -> str:
    """What to do about problems, by their kinds."""
    kinds = {problem.error for problem in report.problems}
    if kinds == {"FileAdded"}:
        return "Every sealed file is intact. Move the added files out of the folder."
    if kinds == {"ShellWithdrawn"}:
        return f"The record is sound. Make its site again with: pellucid publish {folder}"
    if kinds == {"LedgerIncomplete"} and not report.sealed:
        return f"The run has not ended, and is sound so far. Continue with: pellucid run {folder}"
    return (
        "These parts differ from what was sealed or recorded. Take them from another copy, or "
        "do not trust them."
    )


_KINDS = ("document", "block", "step", "tensor")


@teaches(
    """Write a small file that proves a document, a block, a step or a tensor against the run's
    head.

    pellucid prove mymodel document books/alice.txt --output alice.json
    pellucid prove mymodel step 120
    pellucid prove mymodel tensor model.norm.weight --step 120
    pellucid prove mymodel tensor model.embed_tokens.weight --rows 0:16

    The file holds no texts. Name a tensor of the optimizer with its group, as exp_avg/NAME. With
    --rows, the file holds the digests of the chunks around the rows, and run.rows (Python) checks
    the rows against them.
    """
)
def prove(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[RUN] WHAT", help="document ID, block N, step K, or tensor NAME."),
    ],
    step: Step = "",
    rows: Annotated[
        str,
        typer.Option(
            metavar="A:B", help="Prove only rows A to B - 1 of a tensor.", show_default=""
        ),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            parser=new_file,
            metavar="FILE",
            help="The new file to write.",
            show_default="standard output",
        ),
    ] = None,
) -> None:
    from pellucid import prove as make

    words = list(words)
    folder = home(HERE if words[0] in _KINDS else words.pop(0))
    kind, *names = words or [""]
    if kind not in _KINDS or len(names) != 1:
        raise CommandInvalid(
            verb="prove",
            word=kind or "WHAT",
            detail="write document ID, block N, step K or tensor NAME",
        )
    if (step or rows) and kind != "tensor":
        raise CommandInvalid(
            verb="prove",
            word="--step" if step else "--rows",
            detail="this option is only for a tensor",
        )
    if kind == "tensor":
        number = step_number(step) if step else None
        proof = make.tensor(folder, names[0], number, _rows(rows) if rows else None)
    elif kind == "document":
        proof = make.document(folder, names[0])
    else:
        proof = getattr(make, kind)(folder, step_number(names[0]))
    if output is None:
        print(proof.decode("ascii"), end="")
    else:
        files.write_bytes(output, proof)


def _rows(text: str) -> tuple[int, int]:
    if not (match := re.fullmatch("([0-9]{1,15}):([0-9]{1,15})", text)):
        raise CommandInvalid(verb="prove", word=text, detail="write rows as 0:16")
    return int(match[1]), int(match[2])


@teaches(
    """Check a proof against a run's head, and print what it proves. Needs only the file.

    pellucid check-proof alice.json --head 7bed1c5f…
    """
)
def check_proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A proof.")],
    head: Annotated[
        str, typer.Option(metavar="HEX", help="The run's head, from a source you trust.")
    ] = ...,  # type: ignore[assignment]
    as_json: Json = False,
) -> None:
    from pellucid.record import proofs
    from pellucid.record.digests import is_digest

    if detail := unfit(file):
        raise CommandInvalid(
            verb="check-proof", word=str(file), detail=f"{detail}; name the file of a proof"
        )
    if not is_digest(head):
        detail = "--head takes the whole head, 64 hex digits in small letters"
        raise CommandInvalid(verb="check-proof", word=head, detail=detail)
    with files.open_file(file, follow=True) as opened:
        content = opened.read(proofs.MAX_BYTES + 1)
    proven = proofs.check(content, head)
    if as_json:
        print_json({"ok": True, **proven.as_json()})
    else:
        print(plain(f"proven: {proven}"))
