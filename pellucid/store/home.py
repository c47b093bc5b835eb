"""Where a run or a release lies."""

from __future__ import annotations

from pathlib import Path

from pellucid.errors import UrlInvalid
from pellucid.store import layout
from pellucid.store.remote import RemotePath
from pellucid.store.served import Served
from pellucid.store.transport import Transport, scheme


def is_url(run: str | Path) -> bool:
    return isinstance(run, str) and scheme(run) is not None


def home(run: str | Path) -> Path:
    """The folder of a run or release, or a path into the sealed release behind a URL.

    Raises LinkInside; and ReleaseMissing where an address has none, UrlInvalid, DriverMissing,
    Unreachable, FormatInvalid."""
    if isinstance(run, str) and is_url(run):
        return RemotePath(Served(run, _way_to(run)))
    layout.refuse_links(Path(run))
    return Path(run)


def _way_to(url: str) -> Transport:
    if "?" in url or "#" in url:
        raise UrlInvalid(url=url, detail="it must not contain ? or #")
    if "@" in url.split("/")[2]:
        raise UrlInvalid(
            url=url.partition("://")[0], detail="it must not contain a name or a password"
        )
    if scheme(url) in ("http", "https"):
        from pellucid.store.http import Http  # What asks over the network is slow to import.

        return Http(url)
    from pellucid.store.drivers import Driver

    return Driver(url)
