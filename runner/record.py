"""What a run leaves behind: one folder, one record, written whole or not at all."""

import json
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from runner.errors import DiskFull
from runner.lock import RunLock
from tasks.errors import UserError
from tasks.storage import FULL

logger = logging.getLogger(__name__)


class RunFolder:
    """Where a run keeps its files: ``runs_dir/<task>/<run id>/``."""

    def __init__(self, runs_dir: Path, settings: Mapping[str, Any], run_id: str) -> None:
        self.path = runs_dir / settings["task"]["name"] / run_id
        self.record = self.path / "record.json"
        self.failure = self.path / "failure.json"
        self.checkpoint = self.path / "checkpoint.pt"
        self.metrics = self.path / "metrics.jsonl"
        self.log = self.path / "log.txt"
        self.lock = RunLock(self.path / "owner")

    def make(self) -> None:
        """Create the folder, or say why that cannot be."""
        try:
            with self.full_disk_said():
                self.path.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=self.path):
                    pass
        except OSError as error:
            raise UserError(
                f"cannot write to {self.path} ({error.strerror}): choose another folder with "
                "runs_dir=..."
            ) from error

    def remove_if_empty(self) -> None:
        """Remove the folder if nothing is in it."""
        with suppress(OSError):
            self.path.rmdir()

    def has_metrics(self, size: int) -> bool:
        """Say whether there are so many bytes of metrics; the machine's death may cost the last."""
        return size == 0 or (self.metrics.exists() and self.metrics.stat().st_size >= size)

    def tidy(self) -> None:
        """Remove what killed writers left and put a damaged record aside; only for the owner."""
        for file in (self.record, self.failure, self.checkpoint, self.lock.path):
            for leftover in self.path.glob(f".{file.name}.*"):
                leftover.unlink(missing_ok=True)
        if self.record.exists() and self.read_record() is None:
            put_aside(self.record)

    @contextmanager
    def full_disk_said(self) -> Iterator[None]:
        """Turn a full disk into a line of advice."""
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise DiskFull(self.path) from error

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Let what is logged go to the run's log, too, which is made when there is something."""
        handler = logging.FileHandler(self.log, delay=True)
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)
            handler.close()

    def result(self) -> dict[str, Any] | None:
        """Return what :meth:`read_record` does; a checkpoint beside a record is removed.

        Who wrote the record has removed it, unless he was killed in between.
        """
        record = self.read_record()
        if record is not None:
            with suppress(OSError):  # others' results may be read-only
                self.checkpoint.unlink(missing_ok=True)
        return record

    def read_record(self) -> dict[str, Any] | None:
        """Return the finished run's record, or None if there is none, or none that is whole."""
        try:
            record = json.loads(self.record.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            raise UserError(f"cannot read {self.record}: {error.strerror}") from error
        return record if _is_whole(record) else None


def optimizer_of(task: str, run_id: str) -> str:
    """Return the optimizer in a run's id, which is task-optimizer-hash."""
    return run_id.removeprefix(f"{task}-").rpartition("-")[0]


def _is_whole(record: Any) -> bool:
    """Say whether a record has what its readers cannot do without."""
    try:
        results = record["results"]
        return (
            record["status"] in ("finished", "diverged")
            and isinstance(record["run_id"], str)
            and {"last", "averaged"} <= results["validation"].keys() & results["test"].keys()
            and {"task", "opt"} <= record["settings"].keys()
            and {"seconds", "examples_per_second"} <= record["measured"].keys()
        )
    except (KeyError, TypeError, AttributeError):
        return False


def put_aside(path: Path, reason: str = "is damaged") -> None:
    """Rename a file that cannot be used, and say so."""
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    logger.warning("%s %s: it is now %s, and the run begins anew", path, reason, aside.name)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file in one atomic step: a reader sees the old one or the new one, whole."""
    write_atomically(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write bytes in one atomic step."""
    with replaced_atomically(path) as file:
        file.write(content)


@contextmanager
def replaced_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside the target to write to; force it to the disk, and rename it to the target.

    The rename is forced, too: a checkpoint is removed once its run's record is there to stay.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every file system can
            os.fsync(folder)
    finally:
        os.close(folder)
