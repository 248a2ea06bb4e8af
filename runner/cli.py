"""What every command line shares: one clear line for an error, and its exit status."""

import logging
import sys
import traceback
from collections.abc import Callable

from runner.cores import wait_without_work
from runner.errors import Busy, Crash, Stopped
from tasks.errors import UserError
from tasks.storage import FULL

CRASHED, BAD_INPUT, BUSY = 1, 2, 3


def main(command: Callable[[], int | None]) -> None:
    """Run a command and exit: 0 done, 1 crashed, 2 bad input, 3 busy, 128 + n for signal n.

    ``debug=true`` on the command line shows the traceback as well.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    wait_without_work()
    debug = "debug=true" in (argument.lower() for argument in sys.argv)
    try:
        status = command() or 0
    except KeyboardInterrupt:
        status = _say("stopped: the same command goes on from the last checkpoint", 130)
    except (UserError, Crash, Busy, Stopped) as error:
        if debug:
            traceback.print_exc()
        prefix = "error: " if isinstance(error, UserError | Crash) else ""
        status = _say(prefix + one_line(error), _status(error))
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno in FULL:
            line = "error: the disk is full: free some space and give the same command again"
            sys.exit(_say(line, BAD_INPUT))
        hint = "" if debug else " (debug=true shows where)"
        status = _say(f"error: {type(error).__name__}: {one_line(error)}{hint}", CRASHED)
    sys.stdout.flush()
    sys.exit(status)


def one_line(error: BaseException) -> str:
    """Return the error's message without line breaks."""
    return " ".join(str(error).split())


def _status(error: BaseException) -> int:
    match error:
        case UserError():
            return BAD_INPUT
        case Busy():
            return BUSY
        case Stopped():
            return 128 + error.signum
        case _:
            return CRASHED


def _say(line: str, status: int) -> int:
    print(line, file=sys.stderr)
    return status
