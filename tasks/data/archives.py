"""Take the wanted members out of a registry's archive, and nothing else."""

import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO

from tasks.errors import UserError

# A member's name and its content; None for what is no regular file (folders, links, devices).
Member = tuple[str, IO[bytes] | None]


def extract(archive: Path, wanted: Sequence[str], target: Path) -> None:
    """Write the members that match `wanted` (fnmatch patterns) to their paths below `target`.

    Links are never made or followed. Raises UserError if a wanted member's path leads out of
    `target` or if a pattern matches no regular file.
    """
    found: set[str] = set()
    for name, content in _members(archive):
        path = PurePosixPath(name)
        patterns = {pattern for pattern in wanted if fnmatchcase(str(path), pattern)}
        if content is None or not patterns:
            continue
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{archive.name} holds a path outside its own folder ({name}): refused")
        destination = target / path
        destination.parent.mkdir(parents=True, exist_ok=True)
        with destination.open("wb") as file:
            shutil.copyfileobj(content, file)
        found |= patterns
    missing = sorted(set(wanted) - found)
    if missing:
        raise UserError(
            f"{archive.name} holds no file {' and no file '.join(missing)}: "
            "correct `files` of this source in its yaml"
        )


def _members(archive: Path) -> Iterator[Member]:
    if archive.suffix in (".whl", ".zip"):
        yield from _zip_members(archive)
    elif archive.suffix == ".deb":
        yield from _deb_members(archive)
    else:
        with tarfile.open(archive) as tar:
            yield from _tar_members(tar)


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            # The upper half holds Unix's file type; archives made elsewhere leave it 0.
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir() or kind not in (0, stat.S_IFREG):
                yield info.filename, None
            else:
                with opened.open(info) as content:
                    yield info.filename, content


def _deb_members(archive: Path) -> Iterator[Member]:
    # dpkg-deb knows every compression that Debian uses; its tar is read as it streams by.
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as tar,
    ):
        yield from _tar_members(tar)


def _tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    for info in tar:
        yield info.name, tar.extractfile(info) if info.isreg() else None
