"""A run has one owner at a time, on whichever machine, and a dead owner gives it up."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from runner import lock
from runner.errors import Busy
from runner.lock import Owner, RunLock, held, owner
from tasks.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from runner.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("got it", flush=True)
time.sleep(30)
"""
# Each takes the lock, looks whether it is alone for a moment, and goes.
TAKE_TURNS = """
import sys, time
from pathlib import Path
from runner.lock import RunLock
path, alone = Path(sys.argv[1]), Path(sys.argv[1]).with_name("alone")
turns = 0
while turns < 30:
    lock = RunLock(path)
    if not lock.try_acquire():
        continue
    alone.touch(exist_ok=False)
    time.sleep(0.001)
    alone.unlink()
    lock.release()
    turns += 1
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "cifar" / "cifar-dog-0" / "owner"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def start():
    """Start a Python program on a path; it is killed at the end of the test."""
    with ExitStack() as stack:

        def begin(program: str, path: Path) -> subprocess.Popen:
            words = [sys.executable, "-c", program, str(path)]
            process = stack.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            return process

        yield begin


@pytest.fixture
def short(monkeypatch):
    """A lease of a moment."""
    monkeypatch.setattr(lock, "LEASE", 0.6)
    monkeypatch.setattr(lock, "BEAT", 0.2)
    monkeypatch.setattr(lock, "LOOK", 0.02)


class Elsewhere:
    """A process on another machine, as its files show it."""

    def __init__(self, path: Path, pid: int = 1) -> None:
        self.owner = Owner("elsewhere", "0b007", pid, "f00")
        self.file = path.parents[2] / ".owners" / str(self.owner)
        self.file.parent.mkdir(exist_ok=True)
        self.file.touch()
        path.symlink_to(str(self.owner))

    def living(self, stamps: Callable[[int], float]) -> "ExitStack":
        """Give signs of life; `stamps` is what its clock says at each."""
        stop = threading.Event()

        def beat() -> None:
            number = 0
            while not stop.wait(0.1):
                os.utime(self.file, (stamps(number), stamps(number)))
                number += 1

        thread = threading.Thread(target=beat)
        thread.start()
        stack = ExitStack()
        stack.callback(thread.join)
        stack.callback(stop.set)
        return stack


def test_one_at_a_time_in_a_process_and_free_when_released(path):
    with RunLock(path) as first:
        first.check()
        assert held(path) and owner(path).pid == os.getpid() and owner(path).is_here
        assert not RunLock(path).try_acquire()
        with pytest.raises(Busy, match=f"cifar-dog-0 is being trained.*number {os.getpid()} on"):
            RunLock(path).acquire()
        first.check()
    assert not held(path) and owner(path) is None
    assert list(path.parent.iterdir()) == [] and not list((path.parents[2] / ".owners").iterdir())
    with RunLock(path):
        pass


def test_a_thousand_locks_are_one_file_and_one_thread(path):
    paths = [path.parents[1] / str(i) / "owner" for i in range(1000)]
    for each in paths:
        each.parent.mkdir()
    threads = threading.active_count()
    with ExitStack() as stack:
        for each in paths:
            stack.enter_context(RunLock(each))
        assert len(list((path.parents[2] / ".owners").iterdir())) == 1
        assert threading.active_count() == threads + 1
    assert threading.active_count() == threads


def test_another_process_is_waited_for_by_nobody_and_its_death_frees_the_lock_at_once(path, start):
    process = start(HOLD, path)
    process.stdout.readline()
    began = time.monotonic()
    assert held(path, patience=10) and owner(path).pid == process.pid
    with pytest.raises(Busy, match=f"number {process.pid} on"):
        RunLock(path).acquire()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not held(path) and owner(path).pid == process.pid
    with RunLock(path) as mine:
        mine.check()
    assert time.monotonic() - began < lock.LEASE
    assert not list((path.parents[2] / ".owners").iterdir())


def test_processes_that_contend_are_never_two_at_once(path, start):
    killed = start(HOLD, path)
    killed.stdout.readline()
    contenders = [start(TAKE_TURNS, path) for _ in range(3)]
    killed.kill()  # so that they contend for a dead owner's lock first
    assert [process.wait(timeout=60) for process in contenders] == [0, 0, 0]
    assert list(path.parent.iterdir()) == []


def test_of_many_who_find_the_owner_dead_one_takes_over(path, short):
    for _ in range(20):
        path.unlink(missing_ok=True)
        path.symlink_to("elsewhere-0b007-1-f00")  # its file is gone: dead
        locks = [RunLock(path) for _ in range(8)]
        start, got = threading.Barrier(8), []

        def take(one, start=start, got=got):
            start.wait()
            if one.try_acquire():
                got.append(one)

        threads = [threading.Thread(target=take, args=(one,)) for one in locks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = got
        winner.check()
        winner.release()


# What the other machine's clock says: it runs ahead or behind, or backwards.
CLOCKS = {
    "hours ahead": lambda n: time.time() + 7200 + n,
    "hours behind": lambda n: time.time() - 7200 + n,
    "backwards": lambda n: 1e9 - n,
}


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS)
def test_an_owner_elsewhere_that_gives_signs_of_life_is_left_alone(path, short, clock):
    with Elsewhere(path).living(clock):
        assert held(path)  # the benefit of the doubt
        for _ in range(5):
            with pytest.raises(Busy, match="number 1 on elsewhere"):
                RunLock(path).acquire()
            time.sleep(0.2)  # all in all longer than a lease
        assert held(path)


def test_an_outage_of_the_file_server_kills_nobody(path, short):
    Elsewhere(path)
    for _ in range(3):  # neither looks nor signs came through meanwhile
        assert held(path)
        time.sleep(0.7)
    assert held(path) and not RunLock(path).try_acquire()


@pytest.mark.parametrize("hours", [-2, 0, 2])
def test_an_owner_elsewhere_that_is_silent_for_a_lease_loses_all_its_locks(path, short, hours):
    other = Elsewhere(path)
    second = path.parents[1] / "second" / "owner"
    second.parent.mkdir()
    second.symlink_to(str(other.owner))
    os.utime(other.file, (time.time() + 3600 * hours,) * 2)
    began = time.monotonic()
    assert held(path)
    assert not RunLock(path).try_acquire()
    with RunLock(path) as mine:
        assert time.monotonic() - began >= 0.6
        mine.check()
        assert not other.file.exists()
        later = RunLock(second)
        assert later.try_acquire()  # one watch tells of all of them
        later.release()


def test_what_was_seen_of_owners_elsewhere_is_forgotten_in_time(path, monkeypatch):
    moments = count(0, lock.LEASE)
    monkeypatch.setattr(lock, "_seen", {})
    monkeypatch.setattr(lock.time, "monotonic", lambda: next(moments))
    for pid in range(20):
        path.unlink(missing_ok=True)
        Elsewhere(path, pid)
        assert held(path)
    assert len(lock._seen) < 4


def test_a_dead_heir_stops_nobody(path):
    owners = path.parents[2] / ".owners"
    owners.mkdir()
    path.symlink_to("elsewhere-0b007-1-f00")
    (owners / "elsewhere-0b007-1-f00.heir").symlink_to("elsewhere-0b007-2-f00")
    with RunLock(path) as mine:
        mine.check()
    assert not list(owners.iterdir())


@pytest.mark.parametrize("heirs", [{1: 1}, {1: 2, 2: 1}])
def test_heirs_in_a_circle_are_no_obstacle(path, heirs):
    def name(pid):
        return f"elsewhere-0b007-{pid}-f00"

    owners = path.parents[2] / ".owners"
    owners.mkdir()
    path.symlink_to(name(1))
    for dead, heir in heirs.items():
        (owners / f"{name(dead)}.heir").symlink_to(name(heir))
    with RunLock(path) as mine:
        mine.check()
    assert not list(owners.iterdir())


def test_a_lock_is_not_got_twice(path):
    with RunLock(path) as mine:
        with pytest.raises(RuntimeError, match="already"):
            mine.try_acquire()
        mine.check()
    assert not list((path.parents[2] / ".owners").iterdir())


def test_a_link_that_names_no_process_is_of_a_dead_one(path):
    path.symlink_to("nobody")
    assert owner(path) is None and not held(path)
    with RunLock(path) as mine:
        mine.check()


def test_a_forked_child_leaves_its_parents_lock_alone(path):
    with RunLock(path) as mine:
        child = os.fork()
        if not child:
            try:
                mine.check()
            except Busy:
                mine.release()
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        mine.check()


def test_a_forked_child_closes_no_file_but_the_lock_it_was_born_with(path, monkeypatch):
    kept = {}
    monkeypatch.setattr(lock, "_lives_here", kept)
    lost = RunLock(path)
    lost.acquire()
    gone = dict(kept)
    lost.release()
    kept |= gone  # a lock that was given up already
    with path.with_name("next").open("w") as file:  # has the number of the lock's file
        child = os.fork()
        if not child:
            try:
                os.fstat(file.fileno())
            except OSError:
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_who_lost_the_lock_is_told_and_leaves_it_to_the_next(path, monkeypatch):
    slept = RunLock(path)
    slept.acquire()
    # Taken for dead by another machine, which knows nothing of our flock.
    monkeypatch.setattr(lock, "_machine", lambda: ("elsewhere", "0b007"))
    monkeypatch.setattr(lock, "LEASE", 0.0)
    monkeypatch.setattr(lock, "_lives_here", {})
    with RunLock(path) as other:
        other.check()
        with pytest.raises(Busy, match="taken over"):
            slept.check()
        slept.release()
        assert owner(path).host == "elsewhere"
        other.check()


def test_a_lost_process_can_own_its_next_run(path):
    first = RunLock(path)
    first.acquire()
    (path.parents[2] / ".owners" / str(owner(path))).unlink()  # as who takes over does
    second = path.parents[1] / "second" / "owner"
    second.parent.mkdir()
    with RunLock(second) as later:
        later.check()
        with pytest.raises(Busy):
            first.check()
        first.release()
        later.check()


def test_without_flock_a_watch_tells_here_as_elsewhere(path, short, start, monkeypatch):
    def missing(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(lock.fcntl, "flock", missing)
    with RunLock(path):
        with pytest.raises(Busy):
            RunLock(path).acquire()
        process = start(HOLD, path)
        assert process.wait(timeout=30) != 0  # Busy
    dead = start(HOLD, path)
    dead.stdout.readline()
    dead.kill()
    dead.wait()
    began = time.monotonic()
    with RunLock(path):
        assert time.monotonic() - began >= 0.6


def test_a_forked_child_neither_owns_nor_keeps_alive(path, start):
    fork = "import os\nif os.fork(): os.kill(os.getpid(), 9)\nprint('child', flush=True)"
    process = start(HOLD.replace("time.sleep", f"{fork}\ntime.sleep"), path)
    assert [process.stdout.readline() for _ in range(2)] == [b"got it\n", b"child\n"]
    process.wait()
    assert not held(path)


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.EOPNOTSUPP, "symbolic links"), (errno.EACCES, "runs_dir=")]
)
def test_where_nothing_can_be_locked_there_is_advice(path, monkeypatch, number, advice):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(UserError, match=advice) as refusal:
        RunLock(path).acquire()
    assert "\n" not in str(refusal.value)
    assert not list((path.parents[2] / ".owners").iterdir())


def test_a_full_disk_is_no_matter_of_locks(path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError) as refusal:
        RunLock(path).acquire()
    assert refusal.value.errno == errno.ENOSPC


def test_names_of_owners_are_read_back():
    one = Owner("node-01.cluster", "1a2b3c4d", 77, "beef")
    assert Owner.parse(str(one)) == one
    assert Owner.new() != Owner.new() and Owner.new().is_here
