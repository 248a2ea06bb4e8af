"""What a run leaves behind: one folder, one record, written whole or not at all."""

import json
import logging
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from runner.archive import archive_beside, open_archive
from runner.errors import DiskFull
from runner.identity import run_id as id_of
from runner.lock import RunLock
from runner.run_record import OtherSchemaError, RunRecord
from tasks.data.storage import FULL, RUNS_DIR, translate_os_errors
from tasks.errors import UserError

logger = logging.getLogger(__name__)

# The weights of which a trained model can be kept.
EXPORTS = ("averaged", "last")


class RunFolder:
    """Where a run keeps its files: ``runs_dir/<task>/<run id>/``.

    Args:
        runs_dir: the folder of all runs.
        task: the task's name.
        run_id: the run's.
        sources: what its data and weights would be read from now; None, and what is absent, is not
            known (:func:`runner.identity.sources`).
    """

    def __init__(
        self,
        runs_dir: Path,
        task: str,
        run_id: str,
        sources: Mapping[str, str | None] | None = None,
    ) -> None:
        self.run_id, self.sources = run_id, sources or {}
        self.archive = archive_beside(runs_dir)
        self.path = runs_dir / task / run_id
        self.record = self.path / "record.json"
        self.failure = self.path / "failure.json"
        self.checkpoint = self.path / "checkpoint.pt"
        self.metrics = self.path / "metrics.jsonl"
        self.log = self.path / "log.txt"
        self.lock = RunLock(self.path / "lock")

    def model(self, weights: str) -> Path:
        """Return the folder of the run's trained model, of its averaged or its last weights."""
        return self.path / f"model_{weights}"

    def remove_models(self) -> None:
        """Remove trained models: a run that has no record yet has not kept them."""
        for weights in EXPORTS:
            shutil.rmtree(self.model(weights), ignore_errors=True)

    def make(self) -> None:
        """Create the folder, or say why that cannot be."""
        with translate_os_errors(self.path, RUNS_DIR), self.full_disk_said():
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass

    def remove_if_empty(self) -> None:
        """Remove the folder if nothing is in it."""
        with suppress(OSError):
            self.path.rmdir()

    def has_metrics(self, size: int) -> bool:
        """Say whether there are so many bytes of metrics; the machine's death may cost the last."""
        return size == 0 or (self.metrics.exists() and self.metrics.stat().st_size >= size)

    def remove_stale_files(self) -> None:
        """Remove what killed writers left and put aside what is not the run's record.

        Only for who holds the lock.
        """
        for file in (self.record, self.failure, self.checkpoint):
            for leftover in self.path.glob(f".{file.name}.*"):
                leftover.unlink(missing_ok=True)
        if self.record.exists():
            try:
                self._recorded()
            except ValueError as error:
                quarantine(self.record, str(error))

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
        handler = logging.FileHandler(self.log, delay=True, encoding="utf-8")
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)
            handler.close()

    def result(self) -> RunRecord | None:
        """Return what :meth:`read_record` does; a checkpoint beside a record is removed.

        Who wrote the record has removed it, unless he was killed in between.
        """
        record = self.read_record()
        if record is not None:
            with suppress(OSError):  # others' results may be read-only
                self.checkpoint.unlink(missing_ok=True)
        return record

    def read_record(self) -> RunRecord | None:
        """Return the finished run's record, its own or the archive's; None if neither is sound."""
        with suppress(ValueError):
            if (record := self._recorded()) is not None:
                return record
        archived = open_archive(self.archive).every(self.run_id)
        return next((record for record in archived if not self._fault(record)), None)

    def _recorded(self) -> RunRecord | None:
        """Return what record.json holds; None where there is none.

        Raises:
            ValueError: saying why it is not the answer that this run would give.
        """
        try:
            record = RunRecord.of_json(self.record.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UserError(f"cannot read {self.record}: {error.strerror}") from error
        except OtherSchemaError:
            raise
        except ValueError as error:
            raise ValueError(f"is damaged ({error})") from error
        if fault := self._fault(record):
            raise ValueError(fault)
        return record

    def _fault(self, record: RunRecord) -> str | None:
        """Say why a record is not the answer that this run would give; None if it is."""
        if not self.run_id == record.run_id == id_of(record.settings):
            return f"is that of another run, {record.run_id}"
        for kind, source in self.sources.items():
            was = (record.sources or {}).get(kind)
            if source is not None and source != was:
                return f"is of other {kind}: {was}, where there is now {source}"
        return None


def quarantine(path: Path, reason: str) -> None:
    """Rename a file that cannot be used, and say so."""
    path.replace(aside := name_aside(path))
    logger.warning("%s %s: it is now %s, and the run begins anew", path, reason, aside.name)


def name_aside(path: Path) -> Path:
    """Return a name, not yet taken, for what is kept of a file that cannot be used."""
    names = (f"{path.name}{number}.damaged" for number in ("", *(f".{i}" for i in range(2, 1000))))
    return next(each for each in map(path.with_name, names) if not each.exists())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file in one atomic step: a reader sees the old one or the new one, whole."""
    write_atomically(path, (to_json(content, indent=1) + "\n").encode())


def to_json(content: Any, indent: int | None = None) -> str:
    """Return content as JSON, which knows no NaN and no infinity: these numbers become null."""
    return json.dumps(finite_or_null(content), indent=indent, sort_keys=True, allow_nan=False)


def finite_or_null(value: Any) -> Any:
    """Return a copy of content with null in place of each number that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite_or_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
