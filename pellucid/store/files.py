"""Files and folders that appear whole or not at all, and paths that stay inside their folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import filecmp
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pellucid.errors import (
    DiskFull,
    FileMissing,
    FolderTaken,
    FolderUnfit,
    FormatInvalid,
    NoPermission,
    PathUnsafe,
    RunBusy,
)
from pellucid.store import file_kinds

TEMPORARY = ".partial-"  # A name that begins so is unfinished work: removed at the next start.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
# Of links (O_NOFOLLOW), of sockets and devices without a driver, of folders.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE = {errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR}
# Bytes of one file that take no room: a file system that packs zeros has honest ones (the moments
# of the first state), and this many are hashed within minutes.
HOLES = 1 << 38
JSON_BYTES = 16 << 20  # Of a JSON file, at most.
# Levels of a JSON file: no honest one has a tenth of them, and our own walks over it recurse.
_DEEPEST = 64


@contextlib.contextmanager
def named_errors(path: Path | str, action: str = "write") -> Iterator[None]:
    """Turn the operating system's refusals into DiskFull and NoPermission."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(path=path) from error
        if error.errno in _DENIED:
            raise NoPermission(action=action, path=path) from error
        raise


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success it is synced and renamed to path, else removed."""
    partial = path.with_name(TEMPORARY + path.name)
    with named_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.unlink(missing_ok=True)  # Or it would be written to, whatever it is.
            yield partial
            sync(partial)  # Before the rename: after a power cut no name leads to half a file.
            partial.replace(path)
            sync(path.parent)  # The rename itself lasts only from here on.
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """As whole_file, for a folder; an older folder of that name is replaced."""
    partial = path.with_name(TEMPORARY + path.name)
    with named_errors(path):
        try:
            _made_anew(partial, path)
            yield partial
            for inner in sorted(partial.rglob("*")):
                sync(inner)
            replace_folder(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """As whole_folder, for a folder that is new or empty, or holds just this already: so a command
    that was killed when its work was done can be given again. Raises FolderTaken."""
    if path.name == "..":
        raise FolderTaken(path=path, found="the current folder")
    if file_kinds.is_link(path):  # Else the link would be replaced.
        path = path.resolve()
    if _is_free(path):
        with whole_folder(path) as partial:
            yield partial
        return
    partial = path.with_name(TEMPORARY + path.name)
    with named_errors(path):
        try:
            _made_anew(partial, path)
            yield partial
            if not _same(partial, path):
                require_free(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _made_anew(partial: Path, path: Path) -> None:
    """An empty folder for another one, whatever a killed process left there."""
    shutil.rmtree(partial, ignore_errors=True)
    make_folder(partial, path)


def make_folder(path: Path, named: Path | None = None) -> None:
    """A new folder, and those above it that are not there. Raises NoPermission, DiskFull and
    FolderUnfit, of the folder that it is for, where that is `named`."""
    named = named or path
    with named_errors(named):
        try:
            path.mkdir(parents=True)
        except OSError as error:
            if error.errno in _FULL | _DENIED:
                raise
            raise FolderUnfit(path=named, detail=_in_the_way(path) or error.strerror) from error


def _in_the_way(path: Path) -> str:
    """What of a path is there and is no folder, in words."""
    for above in (path, *path.parents):
        if os.path.lexists(above) and not above.is_dir():
            return f"{above} is {'a file' if above.is_file() else 'not a folder'}"
    return ""


def _same(left: Path, right: Path) -> bool:
    """Whether two folders hold the same files."""
    names = walk(left)
    return names == walk(right) and all(_same_file(left / name, right / name) for name in names)


def _same_file(left: Path, right: Path) -> bool:
    return left.samefile(right) or filecmp.cmp(left, right, shallow=False)


def _is_free(folder: Path) -> bool:
    with named_errors(folder, "read"):
        return not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir()))


def replace_folder(new: Path, old: Path) -> None:
    """Put a whole folder in another's place; the old files go once the new ones are there."""
    moved = _renamed(old)  # A rename does not replace a folder that holds files.
    new.rename(old)
    sync(old.parent)
    if moved:
        shutil.rmtree(moved)


def remove_folder(path: Path) -> None:
    """Remove a folder at once: it is renamed before its files go, so
    that half of it is never seen."""
    if moved := _renamed(path):
        shutil.rmtree(moved)


def _renamed(path: Path) -> Path | None:
    """Where a folder that has to go was moved to; None where there is none."""
    if not path.exists():
        return None
    moved = path.with_name(f"{TEMPORARY}old-{path.name}")
    shutil.rmtree(moved, ignore_errors=True)
    return path.rename(moved)


def sync(path: Path) -> None:
    """Flush a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """UTF-8, lines ended by \\n on every platform."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, value: object) -> None:
    """Indented JSON, keys in the order given, ended by a newline."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: object) -> bytes:
    """The one spelling of the JSON files that are written here."""
    return (json.dumps(value, indent=2, ensure_ascii=True) + "\n").encode("ascii")


def read_json(path: Path, limit: int = JSON_BYTES) -> dict:
    """A JSON object from a file of at most limit bytes. Raises FormatInvalid, FileMissing."""
    try:
        value = parse_json(read_bytes(path, limit))
    except (ValueError, RecursionError) as error:
        raise FormatInvalid(path=path, detail=f"is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise FormatInvalid(path=path, detail="is not a JSON object")
    return value


def parse_json(content: bytes) -> Any:
    """A JSON value of few levels, in which no key stands twice: readers differ
    in which of the two they take.

    Raises ValueError, RecursionError.
    """
    value = json.loads(content, object_pairs_hook=_object)
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for container in level for inner in _inner(container)]
        if not level:
            return value
    raise ValueError(f"more than {_DEEPEST} levels deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"the key {name[:60]!r} stands twice")
        members[name] = value
    return members


def _inner(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def read_bytes(path: Path, limit: int, follow: bool = False) -> bytes:
    """The content of a file of at most limit bytes. Raises what open_file raises."""
    with open_file(path, follow) as file, named_errors(path, "read"):
        content = file.read(limit + 1)
    if len(content) > limit:
        raise FormatInvalid(path=path, detail=f"is larger than {limit} bytes")
    return content


def holds(path: Path, content: bytes) -> bool:
    """Whether a file is there and has this content."""
    return (
        is_file(path)
        and path.stat().st_size == len(content)
        and read_bytes(path, len(content)) == content
    )


def is_file(path: Path) -> bool:
    """As Path.is_file, also of a name that is too long to be one."""
    return os.path.lexists(path) and path.is_file()


def open_file(path: Path, follow: bool = False) -> io.BufferedReader:
    """The one way to open what lies in a run, for reading: a plain file and nothing else.

    No link is followed, but where the user named the file (follow); a pipe or a device keeps nobody
    waiting, and a file that claims far more than it takes on disk is refused before a byte is read.
    Raises FileMissing, FormatInvalid, NoPermission."""
    if not _on_disk(path):
        return path.open("rb")  # type: ignore[return-value]
    with named_errors(path, "read"):
        try:
            # What is found is asked of the descriptor: a name can be given
            # to something else meanwhile.
            descriptor = os.open(path, _FLAGS if follow else _FLAGS | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileMissing(path=path) from error
        except OSError as error:
            if error.errno in _NO_FILE:
                raise FormatInvalid(path=path, detail=file_kinds.unfit(path, follow)) from error
            raise
        try:
            _require_plain(path, os.fstat(descriptor))
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise


def require_file(path: Path) -> None:
    """Raises FileMissing, and FormatInvalid where what has that name is
    nothing that open_file would open."""
    with named_errors(path, "read"):
        try:
            status = path.lstat() if _on_disk(path) else path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileMissing(path=path) from error
    _require_plain(path, status)


def _on_disk(path: Path) -> bool:
    try:
        os.fspath(path)
    except TypeError:  # store/remote.py: an address.
        return False
    return True


def _require_plain(path: Path, about: os.stat_result) -> None:
    if kind := file_kinds.other(about.st_mode):
        raise FormatInvalid(path=path, detail=f"is not a file but {kind}")
    blocks = getattr(about, "st_blocks", None)  # Of 512 bytes; not told of everything everywhere.
    if blocks is not None and about.st_size - 512 * blocks > HOLES:
        raise FormatInvalid(
            path=path,
            detail=f"claims {about.st_size} bytes, but uses almost none of them on disk",
        )


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system allows it, a copy elsewhere."""
    with named_errors(target):
        target.unlink(missing_ok=True)
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno in _FULL:
                raise
            copy(source, target)


def copy(source: Path, target: Path) -> None:
    """The content of a plain file in a new file of its own. Raises what
    open_file raises, and DiskFull."""
    with open_file(source) as file, named_errors(target), target.open("xb") as copied:
        shutil.copyfileobj(file, copied, 1 << 20)


def remove_partial(folder: Path, own: Callable[[str], bool] = lambda path: True) -> list[str]:
    """Remove what a killed process left unfinished anywhere below folder, of the '/'-paths that are
    own; returns the names of what was removed."""
    removed = []
    for parent, folders, names in os.walk(folder):
        above = Path(parent).relative_to(folder)
        folders[:] = [name for name in folders if own((above / name).as_posix())]
        names = [name for name in names if own((above / name).as_posix())]
        for name in [name for name in folders if name.startswith(TEMPORARY)]:
            folders.remove(name)
            shutil.rmtree(Path(parent, name))
            removed.append(name)
        for name in [name for name in names if name.startswith(TEMPORARY)]:
            Path(parent, name).unlink()
            removed.append(name)
    return removed


def inside(folder: Path, entry: str, where: str) -> Path:
    """The path of a release's entry, refused where it is absolute, climbs out or passes a link.

    Raises PathUnsafe. Only plain relative '/'-paths in normal form are taken.
    """
    path = folder
    for part in parts_of(entry, where):
        path = path / part
        try:
            link = path.is_symlink()
        except OSError as error:
            raise PathUnsafe(
                path=where, entry=entry, detail=f"not a name on this machine ({error.strerror})"
            ) from error
        if link:
            raise PathUnsafe(path=where, entry=entry, detail="a symbolic link")
    return path


def parts_of(entry: str, where: str) -> tuple[str, ...]:
    """The parts of a plain relative '/'-path in normal form. Raises
    PathUnsafe for anything else."""
    parts = PurePosixPath(entry).parts
    if (
        not entry
        or entry.startswith("/")
        or "\\" in entry
        or "\0" in entry
        or ":" in (parts or ("",))[0]
    ):
        raise PathUnsafe(path=where, entry=entry, detail="not a relative path")
    if not parts or ".." in parts or str(PurePosixPath(*parts)) != entry:
        raise PathUnsafe(
            path=where, entry=entry, detail="not in normal form, or leads out of the folder"
        )
    if not _encodable(entry):
        raise PathUnsafe(path=where, entry=entry, detail="not UTF-8")
    return parts


def inner(entry: str) -> bool:
    """Whether a path is a plain relative one, which tells of nothing outside its folder."""
    try:
        return not parts_of(entry, "")[0].startswith("~")
    except PathUnsafe:
        return False


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def require_free(folder: Path, found: str = "other files", fix: str = "") -> None:
    """Raises FolderTaken unless the folder is new or empty; fix says what else can be
    done with what it holds. Where it cannot be made, FolderUnfit, NoPermission or
    DiskFull, before any long work."""
    if detail := _in_the_way(folder):
        raise FolderUnfit(path=folder, detail=detail)
    if not _is_free(folder):
        raise FolderTaken(path=folder, found=found, fix=fix)
    if folder.name in ("", ".."):
        raise FolderUnfit(path=folder, detail="the path does not end with a name")
    first = next(
        (path for path in (*reversed(folder.parents), folder) if not os.path.lexists(path)), folder
    )
    probe = first.with_name(TEMPORARY + first.name)
    if not os.path.lexists(probe):  # Only trying tells of every kind of folder.
        make_folder(probe, folder)
        probe.rmdir()


def walk(folder: Path) -> list[str]:
    """Every file and link below folder as '/'-paths, sorted by their UTF-8 bytes."""
    paths = []
    for parent, folders, names in os.walk(folder):
        above = Path(parent)
        links = [name for name in folders if (above / name).is_symlink()]
        paths += [(above / name).relative_to(folder).as_posix() for name in names + links]
    return sorted(paths, key=os.fsencode)


def empty_folders(folder: Path) -> list[str]:
    """The folders below folder in which no file lies, however deep, as '/'-paths: of those in each
    other the outermost, sorted."""
    empty, filled = list[Path](), set[Path]()
    for parent, folders, names in os.walk(folder, topdown=False):
        above = Path(parent)
        if names or any(above / name in filled or (above / name).is_symlink() for name in folders):
            filled.add(above)
        else:
            empty.append(above)
    filled.add(folder)
    outermost = [path for path in empty if path != folder and path.parent in filled]
    return sorted((path.relative_to(folder).as_posix() for path in outermost), key=os.fsencode)


def links(folder: Path, own: Callable[[str], bool]) -> Iterator[str]:
    """Every symbolic link below folder among the '/'-paths that are own. What cannot be listed is
    passed over: nobody gets further there."""
    below = [""]
    while below:
        above = below.pop()
        with contextlib.suppress(OSError), os.scandir(folder / above) as listing:
            for entry in listing:
                path = above + entry.name
                if own(path) and entry.is_symlink():
                    yield path
                elif own(path) and entry.is_dir(follow_symlinks=False):
                    below.append(f"{path}/")


def sha256_file(path: Path) -> str:
    """Raises what open_file raises."""
    with open_file(path) as file, named_errors(path, "read"):
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold the folder for this process alone. Raises RunBusy, or waits; the
    lock dies with the process."""
    with named_errors(folder):
        descriptor = os.open(folder, os.O_RDONLY)  # The folder itself: no lock file stays behind.
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise RunBusy(path=folder) from error
        yield
    finally:
        os.close(descriptor)
