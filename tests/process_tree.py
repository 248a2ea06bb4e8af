"""Processes as a test sees them from outside: any of them may end between two looks."""

import time

import psutil


def below(pid):
    """Return all processes below one."""
    return psutil.Process(pid).children(recursive=True)


def running(process):
    """Say whether a process runs. One that has ended, and whose parent has not asked, does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def left(processes, seconds):
    """Return those that run still after so many seconds."""
    deadline = time.monotonic() + seconds
    while (there := [process for process in processes if running(process)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    return there
