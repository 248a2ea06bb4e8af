"""The lock of a run: one process trains it, on whichever machine, and a dead one gives it up.

A lock is a symbolic link that names its owner, a process. The server of a shared file system makes
such a link for one of those who ask and refuses the others, in one step that cannot be seen
half-done; flock and fcntl may hold for one machine only (Lustre) or not at all. While a process
holds locks it keeps one file, ``<runs_dir>/.owners/<owner>``: locked with flock, and touched every
few seconds. Whether an owner lives is seen from this file:

- On its own machine from the flock, which the kernel frees when the process ends, however it does.
- From elsewhere by watching it for change. Without one for a whole lease, by the watcher's own
  monotonic clock, the owner is dead. No two machines' clocks are compared.

One file and one thread a process, not a lock, because a process may hold a thousand locks, and so
that one watch tells of all of them. (filelock's SoftFileLease has a thread for each, and takes over
by exchanging two names in one step, which NFS refuses.)

Who finds a lock's owner dead takes it over while holding a second lock, that of the dead owner's
heir, so that two who find it do not both. A process that slept for longer than a lease may lose its
locks: it calls :meth:`RunLock.check` before it writes. The check and the writing are not one step;
what may pass between them is written twice, whole each time, and a run's outcome is the same.
"""

import fcntl
import os
import re
import secrets
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.errors import Busy
from tasks.data.storage import FULL
from tasks.errors import UserError

# Seconds without a sign of life after which an owner elsewhere counts as dead, and between signs.
LEASE = 60.0
BEAT = 5.0
# Seconds between looks at an owner that is being watched.
LOOK = 0.2


@dataclass(frozen=True)
class Owner:
    """A process that holds locks."""

    host: str
    boot: str  # tells apart machines of one name and boots of one; "0" where there is no flock
    pid: int
    token: str  # tells apart processes of one number

    def __str__(self) -> str:
        return f"{self.host}-{self.boot}-{self.pid}-{self.token}"

    @classmethod
    def parse(cls, name: str) -> "Owner":
        """Return the owner of this name; the inverse of ``str``."""
        host, boot, pid, token = name.rsplit("-", 3)
        return cls(host, boot, int(pid), token)

    @classmethod
    def new(cls) -> "Owner":
        """Return this process, as an owner that has not been before."""
        return cls(*_machine(), os.getpid(), secrets.token_hex(6))

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine since it was started."""
        return (self.host, self.boot) == _machine()


class RunLock:
    """The lock of one run, ``<runs_dir>/<task>/<run id>/owner``; not re-entrant."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._owners = path.parents[2] / ".owners"
        self._life: _Life | None = None  # of this process, while it holds the lock

    def __enter__(self) -> "RunLock":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __getstate__(self) -> dict[str, Any]:
        # What another process gets of it is not held.
        return {**self.__dict__, "_life": None}

    def acquire(self) -> None:
        """Get the lock; that takes a lease where its owner was on another machine and is silent.

        Raises:
            Busy: once its owner is seen to live.
            UserError: if the file system cannot lock.
        """
        while not self.try_acquire():
            if held(self.path, patience=LEASE + BEAT):
                name = self.path.parent.name
                where = _whereabouts(owner(self.path))
                raise Busy(f"{name} is being trained by another process{where}; nothing to do here")
            time.sleep(0.01)  # others take it over, too

    def try_acquire(self) -> bool:
        """Get the lock if it is free or its owner is known to be dead; say whether that is so."""
        if self._mine is not None:
            raise RuntimeError(f"{self.path} is locked by this object already")
        try:
            life = _enter(self._owners)
            try:
                if _take(self.path, self._owners, str(life.owner)):
                    self._life = life
            finally:
                if self._life is not life:
                    _leave(life)
        except OSError as error:
            if error.errno in FULL:
                raise
            raise UserError(
                f"cannot lock {self.path} ({error.strerror}): choose with runs_dir=... a folder "
                "that you may write to, on a file system that has symbolic links"
            ) from error
        return self._mine is not None

    def check(self) -> None:
        """Make sure that the lock is still this process's.

        Raises:
            Busy: if another process took it over.
        """
        life = self._mine
        if life is None or not life.is_known or _name_in(self.path) != str(life.owner):
            raise Busy(
                f"{self.path.parent.name} was taken over by another process, as this one gave no "
                f"sign of life for {LEASE:.0f} s, or its folder or .owners was removed"
            )

    def release(self) -> None:
        """Give the lock up, unless another process has taken it over."""
        life, self._life = self._mine, None
        if life is None:
            return
        with suppress(OSError):  # what cannot be removed is free when this process ends
            if _name_in(self.path) == str(life.owner):
                self.path.unlink()
        _leave(life)

    @property
    def _mine(self) -> "_Life | None":
        """Return the life that holds it, if that is this process's and not its parent's."""
        return self._life if self._life and self._life.owner.pid == os.getpid() else None


def owner(path: Path) -> Owner | None:
    """Return who a lock names, dead or alive, or None if it is free or names no process."""
    name = _name_in(path)
    with suppress(ValueError):
        return None if name is None else Owner.parse(name)
    return None


def held(path: Path, patience: float = 0.0) -> bool:
    """Say whether a lock's owner lives, without disturbing it.

    An owner on another machine is given the benefit of the doubt, until it has been watched for a
    lease without a change, here or in earlier calls; `patience` is for how many seconds to watch.
    """
    deadline = time.monotonic() + patience
    while (sign := lives(path)) is None and time.monotonic() < deadline:
        time.sleep(LOOK)
    return sign is not False


def lives(path: Path) -> bool | None:
    """Say whether a lock's owner lives; None of one elsewhere of which this is not known yet."""
    name = _name_in(path)
    return False if name is None else _lives(path.parents[2] / ".owners", name)


def _take(path: Path, owners: Path, mine: str, dead: tuple[str, ...] = ()) -> bool:
    """Make the link, or take it over from a dead owner; say whether it is ours now.

    Where it is the lock of an heir, `dead` are those who are inherited from on the way.
    """
    for _ in range(3):  # it may be released between two steps
        try:
            path.symlink_to(mine)
        except FileExistsError:
            name = _name_in(path)
            if name in dead:  # an heir of itself, which no process makes: damaged
                path.unlink(missing_ok=True)
            elif name is not None:
                return _lives(owners, name) is False and _inherit(path, owners, mine, (*dead, name))
        else:
            return True
    return False


def _inherit(path: Path, owners: Path, mine: str, dead: tuple[str, ...]) -> bool:
    """Take over the lock of the last of the dead; of several who try, one succeeds."""
    name = dead[-1]
    heir = owners / f"{name}.heir"
    if not _take(heir, owners, mine, dead):
        return False
    try:
        if _name_in(path) != name:
            return False
        # Tells a dead owner's process, should it be asleep, and saves others the watch.
        (owners / name).unlink(missing_ok=True)
        successor = path.with_name(f".{path.name}.{mine}")
        successor.unlink(missing_ok=True)
        successor.symlink_to(mine)
        successor.replace(path)
        return True
    finally:
        heir.unlink(missing_ok=True)


def _name_in(path: Path) -> str | None:
    """Return the name that a lock holds, or None if there is no lock."""
    try:
        return str(path.readlink())
    except FileNotFoundError:
        return None


# What was seen of the file of each owner elsewhere: its latest time, when it was first seen so by
# our monotonic clock, whether an earlier one had been seen, and when we last looked.
_seen: dict[Path, tuple[int, float, bool, float]] = {}


def _lives(owners: Path, name: str) -> bool | None:
    """Say whether an owner lives; None if that cannot be told yet."""
    path = owners / name
    try:
        # To open it makes NFS ask its server; stat may answer from what it remembers.
        with path.open("rb") as file:
            if Owner.parse(name).is_here and (locked := _is_locked(file.fileno())) is not None:
                return locked
            stamp = os.fstat(file.fileno()).st_mtime_ns
    except (FileNotFoundError, ValueError):
        return False
    now = time.monotonic()  # after the look, which may take as long as a server's outage
    with _guard:
        if path not in _seen:  # one who dies is not looked at any more
            for other in [one for one, (*_, looked) in _seen.items() if now - looked > LEASE]:
                del _seen[other]
        before, since, changed, looked = _seen.get(path, (stamp, now, False, now))
        if stamp != before:
            since, changed = now, True
        elif now - looked > 2 * BEAT:  # nobody watched: nor may it have been able to give signs
            since = now
        _seen[path] = (stamp, since, changed, now)
    if now - since >= LEASE:
        return False
    return True if changed else None


def _is_locked(descriptor: int) -> bool | None:
    """Say whether a process of this machine has locked a file; None where files have no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


class _Life:
    """This process as an owner, from its first lock to its last: a file and a thread."""

    def __init__(self, owners: Path) -> None:
        self.owner = Owner.new()
        self.file = owners / str(self.owner)
        self.locks = 0  # held, or being asked for
        owners.mkdir(parents=True, exist_ok=True)
        # Of a file object, to close which twice closes no other file that has got its number.
        self._stream = self.file.open("xb", buffering=0)
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # be watched, here as elsewhere
            self.owner = replace(self.owner, boot="0")
            self.file = self.file.rename(owners / str(self.owner))
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="locks", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._end.wait(BEAT):
            with suppress(OSError):  # a network that fails for a moment; or the file was removed
                os.utime(self._stream.fileno())

    @property
    def is_known(self) -> bool:
        """Whether the file is there still, which no other process removes while we live."""
        try:
            self.file.open("rb").close()  # asks NFS's server; stat may answer from memory
        except FileNotFoundError:
            return False
        return True

    def close(self) -> None:
        """Stop the thread and remove the file."""
        self._end.set()
        self._thread.join()
        with suppress(OSError):
            self.file.unlink(missing_ok=True)
        self._stream.close()

    def forget(self) -> None:
        """Let go of what a child process has by its birth, so that it does not keep us alive."""
        self._stream.close()


# This process by the folder of owners, while it holds locks there.
_lives_here: dict[Path, _Life] = {}
_guard = threading.Lock()


def _enter(owners: Path) -> _Life:
    """Be alive in a folder of owners, for one lock more."""
    owners = owners.absolute()
    with _guard:
        life = _lives_here.get(owners)
        if life is None or not life.is_known:  # taken for dead: the next locks begin anew
            life = _lives_here[owners] = _Life(owners)
        life.locks += 1
        return life


def _leave(life: _Life) -> None:
    """Be alive for one lock less."""
    with _guard:
        life.locks -= 1
        if life.locks:
            return
        owners = life.file.parent
        if _lives_here.get(owners) is life:
            del _lives_here[owners]
    life.close()


def _start_anew() -> None:
    """A forked child holds none of its parent's locks."""
    global _guard
    _guard = threading.Lock()
    for life in _lives_here.values():
        life.forget()
    _lives_here.clear()


os.register_at_fork(after_in_child=_start_anew)


def _machine() -> tuple[str, str]:
    """Return this machine's name and a mark of its latest start."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:  # not Linux: its network card, at least
        boot = f"{uuid.getnode():x}"
    return re.sub(r"[^\w.-]", "_", socket.gethostname())[:64], boot


def _whereabouts(found: Owner | None) -> str:
    return "" if found is None else f" (number {found.pid} on {found.host})"
