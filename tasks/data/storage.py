"""Folders on disk that are either whole or absent: locks, staging, seals and clear refusals."""

import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tasks.errors import UserError, reason

SEAL = ".sealed.json"
FULL = (errno.ENOSPC, errno.EDQUOT)
# What chooses another folder for data, and for runs.
DATA_DIR, RUNS_DIR = "data_dir=... or DOG_BENCH_DATA", "runs_dir=..."


def disk_full(folder: Path, detail: str = "", choice: str = DATA_DIR) -> UserError:
    """The error to raise when there is no room left under `folder`."""
    return UserError(
        f"the disk that holds {folder} is full{detail}: free some space there, or choose another "
        f"place with {choice}; nothing half-done was kept"
    )


@contextmanager
def translate_os_errors(folder: Path, choice: str = DATA_DIR) -> Iterator[None]:
    """Turn what the operating system refuses below `folder` into a UserError.

    `choice` is what of the command line chooses another folder.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(folder, choice=choice) from error
        raise UserError(
            f"cannot use the folder {folder}: {error.strerror or error} "
            f"({error.filename or folder}): make it readable and writable, or choose another place "
            f"with {choice}"
        ) from error


@contextmanager
def fetching(name: str, remedy: str) -> Iterator[None]:
    """Turn whatever keeps data from being fetched into a UserError, except for a full disk."""
    try:
        yield
    except Exception as error:  # the network's and the archives' errors are of many kinds
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        raise UserError(f"{name} cannot be fetched ({reason(error)}): {remedy}") from error


@contextmanager
def locked(target: Path, purpose: str) -> Iterator[None]:
    """Hold the lock of `target` among all processes; say so if another one has it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.parent / f".{target.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process has begun to {purpose}: waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` that is gone afterwards, whatever happens.

    Call it under the lock of `target`: what an interrupted process has left is removed first.
    """
    prefix = f".staging-{target.name}-"
    for leftover in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def seal(folder: Path, **metadata: Any) -> None:
    """Write down `metadata`, and the sizes of all files in `folder`, so that damage is seen."""
    files = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / SEAL).write_text(json.dumps({"facts": metadata, "files": files}, indent=1))


def sealed_metadata(folder: Path) -> dict[str, Any] | None:
    """The metadata given to `seal`; None if the folder is absent, or a file of it is not whole."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        content = json.loads((folder / SEAL).read_text())
        sizes = content["files"].items()
        if all((folder / name).stat().st_size == size for name, size in sizes):
            return dict(content["facts"])
    return None


def put_in_place(finished: Path, target: Path) -> None:
    """Rename the finished folder to `target`, or its files one by one if a folder stands there.

    Call it under the lock of `target`. Processes that already read the folder find each file at
    any time, the old or the new one. The seal goes first and comes last: whoever looks in between
    sees a folder that is not whole, and waits for the lock.
    """
    if target.is_symlink() or not target.is_dir():
        if target.exists() or target.is_symlink():
            target.rename(finished.parent / "replaced")
        finished.rename(target)
        return
    (target / SEAL).unlink(missing_ok=True)
    files = [path.relative_to(finished) for path in finished.rglob("*") if path.is_file()]
    for file in sorted(files, key=lambda file: file.name == SEAL):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        (finished / file).replace(target / file)
    for path in target.rglob("*"):
        if path.is_file() and path.relative_to(target) not in files:
            path.unlink()


def default_data_dir() -> Path:
    """The folder for data and weights: DOG_BENCH_DATA, else dog-bench in the user's cache."""
    chosen = os.environ.get("DOG_BENCH_DATA")
    if chosen:
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "dog-bench"
