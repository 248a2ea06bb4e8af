"""What a run leaves behind: one folder, one record, written whole or not at all."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.errors import UserError

# Raised when the meaning of a record's field changes. docs/records.md describes the fields.
SCHEMA = 1


class RunFolder:
    """Where a run keeps its files: ``runs_dir/<task>/<run id>/``."""

    def __init__(self, runs_dir: Path, settings: Mapping[str, Any], run_id: str) -> None:
        self.path = runs_dir / settings["task"]["name"] / run_id
        self.record = self.path / "record.json"
        self.failure = self.path / "failure.json"
        self.checkpoint = self.path / "checkpoint.pt"
        self.metrics = self.path / "metrics.jsonl"
        self.log = self.path / "log.txt"
        self.lock = self.path / "lock"

    def make(self) -> None:
        """Create the folder, or say why that cannot be."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise UserError(
                f"cannot write to {self.path} ({error.strerror}): choose another folder with "
                "runs_dir=..."
            ) from error

    def remove_if_empty(self) -> None:
        """Remove the folder if nothing but its lock is in it."""
        if self.path.is_dir() and {path.name for path in self.path.iterdir()} <= {self.lock.name}:
            self.lock.unlink(missing_ok=True)
            self.path.rmdir()

    def read_record(self) -> dict[str, Any] | None:
        """Return the finished run's record, or None if there is none yet.

        Raises:
            UserError: if it is damaged. It is put aside, so that the same command trains again.
        """
        try:
            record = json.loads(self.record.read_text())
            if not {"run_id", "status", "settings", "results", "measured"} <= set(record):
                raise ValueError("fields are missing")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError) as error:
            raise UserError(put_aside(self.record)) from error
        except OSError as error:
            raise UserError(f"cannot read {self.record}: {error.strerror}") from error
        return record


def optimizer_of(task: str, run_id: str) -> str:
    """Return the optimizer in a run's id, which is task-optimizer-hash."""
    return run_id.removeprefix(f"{task}-").rpartition("-")[0]


def put_aside(path: Path, reason: str = "is damaged") -> str:
    """Rename a file that cannot be used and return the line that says so."""
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    return f"{path} {reason}; it is now {aside.name}: run the same command again to make it anew"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file in one atomic step: a reader sees the old one or the new one, whole."""
    write_atomically(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write bytes beside the target, force them to the disk, and rename."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
