"""Train: view."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli.common import Json, print_json, teaches
from pellucid.store.home import home
from pellucid.terminal import plain

Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN",
        help="A run folder, a release, or its URL; several for their curves.",
        show_default="this folder",
    ),
]


@teaches(
    """Show a run in the browser: its curves, steps, documents and checkpoints, and a search for any
    text. New steps appear while the run trains.

    pellucid view mymodel
    pellucid view mymodel another https://example.org/third
    pellucid view https://example.org/mymodel --port 8000 --no-open

    Of several runs the first is shown, and the curves of the others lie over its own, by steps,
    tokens or time.

    Only this computer can reach the pages. They change nothing in the run. Ctrl-C ends the server.

    To see a run on another machine, forward the port with ssh -L 8000:127.0.0.1:8000 HOST.
    """
)
def view(
    runs: Runs = None,
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="The port to serve at.", show_default="any that is free"
        ),
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False,
    as_json: Json = False,
) -> None:
    from pellucid.site.view import server

    first, *others = map(home, runs or ["."])
    with server(first, port, others) as serving, contextlib.suppress(KeyboardInterrupt):
        if as_json:
            print_json({"address": serving.address})
        else:
            print(f"{serving.address}   End it with Ctrl-C.")
        sys.stdout.flush()
        if not no_open:
            _open(serving.address)
        serving.serve_forever()


def beside_training(
    folder: Path, terminal: Any, viewed: bool
) -> contextlib.AbstractContextManager[None]:
    """Serves the pages of a run while it trains, where that is asked for."""
    if not viewed:
        return contextlib.nullcontext()
    from pellucid.site.beside import beside

    def tell(address: str, fault: str) -> None:
        terminal.note(f"view: {address or plain(fault)}")
        if address:
            _open(address)

    return beside(folder, tell)


def _open(address: str) -> None:
    """In a browser with a window: one without would take the terminal. Some of them end with their
    window, so nothing waits for that."""
    windows = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform == "darwin" or any(os.environ.get(name) for name in windows):
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
