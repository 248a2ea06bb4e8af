"""Archives: the whole records of many runs in a few files that are committed with the code.

A file `<name>.jsonl.gz` has a line of JSON for each run, sorted by run id: its record as in
record.json, and its `curve`, the lines of metrics.jsonl thinned (docs/records.md). Every such file
of a folder is read, so a colleague's is merged by laying it beside the others.
"""

import gzip
import logging
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runner.identity import run_id as id_of
from runner.run_record import RunRecord

logger = logging.getLogger(__name__)

SUFFIX = ".jsonl.gz"
# How a line begins that was written here: its run's id is known before it is parsed.
BEGINNING = b'{"run_id":"'


class Archive:
    """The archived runs of a folder.

    Files are read once, and a line is parsed when its run is asked for. What cannot be used is
    named with its file and line, and left out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines: dict[str, list[tuple[str, bytes]]] = {}  # by run: where it is, and the line
        self._found: dict[str, list[tuple[str, RunRecord]]] = {}
        for path in archive_files(folder):
            for place, line in _lines(path):
                with _named(place):
                    self._lines.setdefault(_id_in(line), []).append((place, line))

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._lines and self.get(run_id) is not None

    def __iter__(self) -> Iterator[RunRecord]:
        """Yield the records, sorted by run id; where two differ, the first file's, with a line."""
        return self._records(sorted(self._lines))

    def of_tasks(self, tasks: Iterable[str]) -> Iterator[RunRecord]:
        """Yield the records of some tasks, with which the ids of their runs begin."""
        beginnings = tuple(f"{task}-" for task in tasks)
        return self._records(sorted(name for name in self._lines if name.startswith(beginnings)))

    def _records(self, run_ids: Iterable[str]) -> Iterator[RunRecord]:
        for run_id in run_ids:
            if (record := self.get(run_id)) is None:
                continue
            for place, other in self._of_run(run_id)[1:]:
                if difference := conflict(record, other):
                    logger.warning("%s: %s: the file before it counts", place, difference)
            yield record

    def get(self, run_id: str) -> RunRecord | None:
        """Return a run's record, the first file's; None if there is none that can be used."""
        return next(self.every(run_id), None)

    def every(self, run_id: str) -> Iterator[RunRecord]:
        """Yield a run's records that can be used, those of all files: their data may differ."""
        return (record for _, record in self._of_run(run_id))

    def _of_run(self, run_id: str) -> list[tuple[str, RunRecord]]:
        if run_id not in self._found:
            self._found[run_id] = found = []
            for place, line in self._lines.get(run_id, ()):
                with _named(place):
                    found.append((place, parse_line(line)))
        return self._found[run_id]


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Name what cannot be used, in place of an error."""
    try:
        yield
    except (ValueError, RecursionError) as error:
        logger.warning("%s is left out: %s", place, error)


def archive_beside(runs_dir: Path) -> Path:
    """Return the folder of the archive that belongs to a folder of runs."""
    return runs_dir.parent / "archive"


_opened: dict[Path, tuple[Any, Archive]] = {}


def open_archive(folder: Path) -> Archive:
    """Return a folder's archive, read once in this process unless its files change."""
    stats = {path: path.stat() for path in archive_files(folder)}
    state = [(path, found.st_mtime_ns, found.st_size) for path, found in stats.items()]
    if folder not in _opened or _opened[folder][0] != state:
        _opened[folder] = state, Archive(folder)
    return _opened[folder][1]


def archive_files(folder: Path) -> list[Path]:
    """Return the files of an archive, sorted; what is half-written begins with a dot."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.name[0] != ".")


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the lines of a file, each with its place; name a file that cannot be read."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        logger.warning("%s is left out: %s", path, str(error) or type(error).__name__)
        return
    for number, line in enumerate(content.splitlines(), 1):
        yield f"{path}, line {number}", line


def _id_in(line: bytes) -> str:
    """Return the id of the run in a line."""
    name, closed, _ = line.removeprefix(BEGINNING).partition(b'"')
    if line.startswith(BEGINNING) and closed:
        return name.decode()
    return parse_line(line).run_id


def parse_line(line: bytes) -> RunRecord:
    """Return the record in a line.

    Raises:
        ValueError: if it is no record of a run whose id its settings give.
    """
    record = RunRecord.of_json(line)
    if record.run_id != (right := id_of(record.settings)):
        raise ValueError(f"it is named {record.run_id}, and its settings are those of {right}")
    return record


def read_archive(path: Path) -> tuple[list[RunRecord], bool]:
    """Return the records of one file, and whether it holds nothing else.

    What cannot be used is named and left out.
    """
    lines, found = list(_lines(path)), []
    for place, line in lines:
        with _named(place):
            found.append(parse_line(line))
    return found, 0 < len(found) == len(lines)


def conflict(ours: RunRecord, other: RunRecord) -> str:
    """Say in what two records of one run differ, beside times and code; "" if in nothing."""
    for split in ("validation", "test"):
        for iterate in ("last", "averaged"):
            here, there = (getattr(getattr(r.results, split), iterate) for r in (ours, other))
            if here != there:
                return f"{ours.run_id} has {split} score {there} ({iterate}), not {here}"
    parts = ("status", "data_id", "sources", "numerics")
    if differ := [part for part in parts if getattr(ours, part) != getattr(other, part)]:
        return f"{ours.run_id} has the same scores and other {', '.join(differ)}"
    return ""
