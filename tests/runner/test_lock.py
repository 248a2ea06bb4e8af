"""One process at a time trains a run, and one that dies gives it up at once."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from runner import lock
from runner.errors import Busy
from runner.lock import RunLock, held
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
from runner.errors import Busy
from runner.lock import RunLock
path, alone = Path(sys.argv[1]), Path(sys.argv[1]).with_name("alone")
turns = 0
while turns < 30:
    lock = RunLock(path)
    try:
        lock.acquire()
    except Busy:
        continue
    lock.check()
    alone.touch(exist_ok=False)
    time.sleep(0.001)
    alone.unlink()
    lock.release()
    turns += 1
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "cifar" / "cifar-dog-0" / "lock"
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


def test_one_at_a_time_in_a_process_and_free_when_released(path):
    with RunLock(path) as first:
        first.check()
        assert held(path)
        with pytest.raises(Busy, match=f"cifar-dog-0 is being trained.*number {os.getpid()} on"):
            RunLock(path).acquire()
        first.check()
    assert not held(path) and list(path.parent.iterdir()) == []
    with RunLock(path):
        pass


def test_another_process_is_waited_for_by_nobody_and_its_death_frees_the_lock_at_once(path, start):
    process = start(HOLD, path)
    process.stdout.readline()
    assert held(path)
    with pytest.raises(Busy, match=f"number {process.pid} on"):
        RunLock(path).acquire()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not held(path)
    with RunLock(path) as mine:
        mine.check()


def test_processes_that_contend_are_never_two_at_once(path, start):
    killed = start(HOLD, path)
    killed.stdout.readline()
    contenders = [start(TAKE_TURNS, path) for _ in range(3)]
    killed.kill()
    assert [process.wait(timeout=60) for process in contenders] == [0, 0, 0]
    assert list(path.parent.iterdir()) == []


def test_who_looks_whether_it_is_held_keeps_nobody_from_it(path):
    path.touch()
    over = threading.Event()

    def look():
        while not over.is_set():
            held(path)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(100):
            with RunLock(path) as mine:
                mine.check()
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("made_anew", [False, True])
def test_who_lost_the_folder_is_told_and_leaves_it_to_the_next(path, made_anew):
    mine = RunLock(path)
    mine.acquire()
    path.unlink()
    if made_anew:
        other = RunLock(path)
        other.acquire()
    with pytest.raises(Busy, match="folder was removed"):
        mine.check()
    mine.release()
    if made_anew:
        other.check()
        assert held(path)
        other.release()


def test_a_copy_in_another_process_is_not_held(path):
    with RunLock(path) as mine:
        copy = pickle.loads(pickle.dumps(mine))
        assert copy.path == path
        with pytest.raises(Busy):
            copy.check()
        copy.release()
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


def test_a_forked_child_does_not_keep_its_parents_lock_alive(path, start):
    fork = "import os\nif os.fork(): os.kill(os.getpid(), 9)\nprint('child', flush=True)"
    process = start(HOLD.replace("time.sleep", f"{fork}\ntime.sleep"), path)
    assert [process.stdout.readline() for _ in range(2)] == [b"got it\n", b"child\n"]
    process.wait()
    assert not held(path)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EROFS])
def test_where_nothing_can_be_locked_there_is_advice(path, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with pytest.raises(UserError, match="runs_dir=") as refusal:
        RunLock(path).acquire()
    assert "\n" not in str(refusal.value)


def test_a_full_disk_is_no_matter_of_locks(path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError) as refusal:
        RunLock(path).acquire()
    assert refusal.value.errno == errno.ENOSPC
