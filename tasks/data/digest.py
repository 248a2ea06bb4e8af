"""Tells one copy of a user's files from another by their content."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from tasks.errors import UserError

# A copy larger than this is told from another by the names and sizes of its files alone: to read
# all of ImageNet would take longer than many a run.
READ_AT_MOST = 10 * 2**30  # bytes

# A file: its name below the folder, its size, and what changes when anybody writes to it.
Entry = tuple[str, int, int, int, int]


def digest_of(path: Path, patterns: Sequence[str], data_dir: Path, key: str) -> str:
    """Return 16 hexadecimal digits that stand for the files at `path`.

    Names and contents count, but not where the folder is, nor files whose name begins with a dot.
    What was read once is remembered in `data_dir` until a file changes. Where nothing is, the path
    itself counts: whoever reads it says what is wrong.

    Args:
        path: a file, or a folder.
        patterns: which files of a folder count, as fnmatch patterns of their paths in it.
        data_dir: the folder of data and weights.
        key: the setting that names the path, for messages.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        if not path.exists():
            return hashlib.sha256(str(path).encode()).hexdigest()[:16]
        path = path.resolve()
        entries = sorted(_entries(path, patterns))
        memo = data_dir / "digests" / hashlib.sha256(f"{path} {entries}".encode()).hexdigest()
        with suppress(OSError):
            return memo.read_text()
        digest = _digest(path, entries)
    except OSError as error:
        where = f": {error.filename}" if error.filename not in (None, str(path)) else ""
        raise UserError(
            f"{key}={path}{where}: cannot be read ({error.strerror or error})"
        ) from error
    with suppress(OSError):  # the data folder may be read-only: then it is read again
        memo.parent.mkdir(parents=True, exist_ok=True)
        partial = memo.with_name(f".{memo.name}.{os.getpid()}")
        partial.write_text(digest)
        partial.replace(memo)
    return digest


def _entries(path: Path, patterns: Sequence[str]) -> Iterator[Entry]:
    if path.is_file():
        yield _entry("", path.stat())
        return
    # Links are followed: the hub's own cache consists of them.
    for folder, folders, names in os.walk(path, onerror=_raise, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "."]
        for name in names:
            file = Path(folder) / name
            inside = file.relative_to(path).as_posix()
            if name[0] != "." and any(fnmatchcase(inside, pattern) for pattern in patterns):
                yield _entry(inside, file.stat())


def _entry(name: str, stat: os.stat_result) -> Entry:
    return name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _raise(error: OSError) -> None:
    raise error


def _digest(path: Path, entries: list[Entry]) -> str:
    whole = sum(size for _, size, *_ in entries) <= READ_AT_MOST
    files = [[name, file_sha256(path / name) if whole else size] for name, size, *_ in entries]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
