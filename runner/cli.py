"""What every command line shares: one clear line for an error, and its exit status."""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable

from runner.errors import Busy, Crash, Stopped
from tasks.errors import UserError

CRASHED, BAD_INPUT, BUSY = 1, 2, 3


def main(command: Callable[[], int | None]) -> None:
    """Run a command and exit: 0 done, 1 crashed, 2 bad input, 3 busy, 128 + n for signal n.

    ``debug=true`` on the command line shows the traceback as well.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    debug = "debug=true" in (argument.lower() for argument in sys.argv)
    try:
        status = command() or 0
    except KeyboardInterrupt:
        status = _say("stopped: the same command goes on from the last checkpoint", 130)
    except (UserError, Crash, Busy, Stopped) as error:
        if debug:
            traceback.print_exc()
        status = _say(*_line(error))
    sys.stdout.flush()
    sys.exit(status)


def exit_status(error: BaseException) -> int:
    """Return the exit status that stands for the way a run ended."""
    return _line(error)[1]


def _line(error: BaseException) -> tuple[str, int]:
    message = " ".join(str(error).split())
    match error:
        case UserError():
            return f"error: {message}", BAD_INPUT
        case Busy():
            return message, BUSY
        case Stopped():
            return message, 128 + error.signum
        case _:
            return f"error: {message}", CRASHED


def _say(line: str, status: int) -> int:
    print(line, file=sys.stderr)
    return status


def quiet_broken_pipe() -> None:
    """Let ``| head`` end the program as it ends others, without a traceback."""
    if os.name == "posix":
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
