"""Packs runs into the archive's files, and takes the runs of other archives into them."""

import gzip
import io
import json
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from analysis.curves import thinned
from analysis.records import run_folders
from runner.archive import (
    BEGINNING,
    SUFFIX,
    archive_files,
    conflict,
    open_archive,
    parse_line,
    read_archive,
)
from runner.record import finite_or_null, name_aside, write_atomically
from runner.run_record import RunRecord
from tasks.errors import UserError


def to_line(record: RunRecord) -> bytes:
    """Return the line of a record, which begins with its run's id."""
    rest = finite_or_null({k: v for k, v in record.plain().items() if k != "run_id"})
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return BEGINNING + f'{record.run_id}",{text[1:]}'.encode()


def write_archive(path: Path, records: Iterable[RunRecord]) -> bool:
    """Write an archive's file in one atomic step, unless it holds just this; say if it was written.

    The bytes depend on the records alone.
    """
    by_id = {record.run_id: record for record in records}
    content = b"".join(to_line(by_id[run_id]) + b"\n" for run_id in sorted(by_id))
    with suppress(OSError, EOFError, zlib.error):
        if gzip.decompress(path.read_bytes()) == content:
            return False
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, packed, mtime=0) as file:
        file.write(content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, packed.getvalue())
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): free some space") from error
    return True


def pack(name: str, folders: Iterable[Path], archive: Path) -> list[str]:
    """Take the runs of these folders that are done into the archive's file; return what to tell.

    What is here replaces what the file has of the same run.
    """
    return _take(_archivable(folders), archive / f"{name}{SUFFIX}", replaces=True)


def merge(source: Path, archive: Path) -> list[str]:
    """Take the runs of another archive, or of a folder of runs, into ours; return what to tell.

    The runs of a file come under its name, and those of a folder in `merged.jsonl.gz`.
    """
    files = archive_files(source) if source.is_dir() else [source]
    # The folder above one of runs has folders in folders, too.
    folders = [path for path in map(Path, run_folders(source)) if (path / "record.json").exists()]
    told = []
    if files and all(path.is_file() and path.name.endswith(SUFFIX) for path in files):
        found = {path: read_archive(path)[0] for path in files}
        if not any(found.values()):
            raise UserError(f"{source} holds no run that can be read: nothing was taken")
        for path, records in found.items():
            told += _take(records, archive / path.name)
    elif folders:
        told = _take(_archivable(folders), archive / f"merged{SUFFIX}")
    else:
        raise UserError(
            f"{source} is no file *{SUFFIX}, no folder of them, and no folder of runs that are done"
        )
    return told or [f"nothing is new in {source}"]


def _take(records: Iterable[RunRecord], path: Path, replaces: bool = False) -> list[str]:
    """Add records to a file of an archive; return what to tell.

    A run that the archive has stays as it is, unless it is in this file and to be replaced. A file
    that holds anything but records, which writing it anew would lose, is kept under another name.
    """
    ours_here, is_whole = read_archive(path) if path.exists() else ([], True)
    mine = {record.run_id: record for record in ours_here}
    archive = open_archive(path.parent)
    told, before = [], len(mine)
    for record in records:
        ours = mine.get(record.run_id) or archive.get(record.run_id)
        if ours is None or (replaces and record.run_id in mine):
            mine[record.run_id] = record
        elif difference := conflict(ours, record):
            told.append(f"conflict in {path.name}: {difference}: ours is kept")
    if mine and not is_whole:
        shutil.copyfile(path, aside := name_aside(path))
        told.append(f"{path} holds what cannot be read: the file as it was is kept as {aside.name}")
    if mine and write_archive(path, mine.values()):
        told.append(f"{len(mine) - before} new runs: {path} has {len(mine)}")
    return told


def _archivable(folders: Iterable[Path]) -> Iterator[RunRecord]:
    """Yield the records in these folders, each with its curve; those of made-up problems not."""
    for folder in folders:
        try:
            record = parse_line((folder / "record.json").read_bytes())
        except (OSError, ValueError):
            continue  # it has none, or none that anybody would believe
        if record.settings["task"].get("synthetic"):
            continue
        with suppress(OSError, ValueError):  # its metrics are elsewhere, or damaged
            curve = thinned((folder / "metrics.jsonl").read_bytes())
            record = record.model_copy(update={"curve": curve})
        yield record
