"""The lock of a run: one process trains it, and one that dies gives it up at once.

It is a file that the process holds by flock (filelock does it), which the kernel frees when the
process ends, however that happens. Right where flock holds for all machines that share a runs_dir:
every local file system, and NFS, CephFS, GPFS and Lustre mounted with ``flock``. On Lustre mounted
with ``localflock`` it holds for each machine alone: two sweeps of one plan, started on two
machines, then train runs twice. Where there is no flock at all, filelock's lock is the file itself.
"""

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from runner.errors import Busy
from tasks.data.storage import FULL
from tasks.errors import UserError

# Seconds in which a lock is asked for: who looks whether it is held has it for a moment.
PATIENCE = 0.05


class RunLock:
    """The lock of one run, ``<runs_dir>/<task>/<run id>/lock``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileLock | None = None  # while this process holds the lock
        self._inode = 0

    def __enter__(self) -> "RunLock":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __getstate__(self) -> dict[str, Any]:
        # What another process gets of it is not held.
        return {"path": self.path, "_file": None, "_inode": 0}

    def acquire(self) -> None:
        """Get the lock.

        Raises:
            Busy: if another process holds it.
            UserError: if the file system cannot lock.
        """
        file = FileLock(self.path, PATIENCE, poll_interval=PATIENCE / 10, thread_local=False)
        try:
            file.acquire()
            self.path.write_text(f"number {os.getpid()} on {socket.gethostname()}\n")
            self._inode = self.path.stat().st_ino
        except Timeout:
            raise Busy(
                f"{self.path.parent.name} is being trained by another process ({self._owner()}); "
                "nothing to do here"
            ) from None
        except OSError as error:
            file.release(force=True)
            if error.errno in FULL:
                raise
            raise UserError(
                f"cannot lock {self.path} ({error.strerror}): choose with runs_dir=... a folder "
                "that you may write to, on a file system that has locks (flock)"
            ) from error
        self._file = file

    def check(self) -> None:
        """Make sure that what is locked is still the run's lock.

        Raises:
            Busy: if the run's folder was removed, and another process may have made it anew.
        """
        with suppress(FileNotFoundError):
            if self._file and self._file.is_locked and self.path.stat().st_ino == self._inode:
                return
        raise Busy(
            f"{self.path.parent.name} is not this process's any more: its folder was removed"
        )

    def release(self) -> None:
        """Give the lock up."""
        file, self._file = self._file, None
        if file is not None and file.is_locked:
            with suppress(FileNotFoundError):
                if self.path.stat().st_ino == self._inode:
                    self.path.unlink()  # while it is ours: who waits for it asks for a new one
            file.release()

    def _owner(self) -> str:
        with suppress(OSError):
            return self.path.read_text().strip() or "of which nothing is known"
        return "which has just ended"


def held(path: Path) -> bool:
    """Say whether a process holds the lock of this path."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # it is, or the file system has no flock
        return True
    return False
