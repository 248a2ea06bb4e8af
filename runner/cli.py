"""What every command line shares: one clear line for an error, its exit status, safe output."""

import codecs
import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO, cast

from runner.cores import wait_without_work
from runner.errors import Busy, Crash, Stopped
from tasks.data.storage import FULL
from tasks.errors import UserError, one_line, with_type

CRASHED, BAD_INPUT, BUSY = 1, 2, 3
# How to spell our signs where the output's encoding lacks them; others are shown by their numbers.
PLAIN = {"−": "-", "±": "+-", "×": "x", "≤": "<=", "≥": ">=", "·": ",", "–": "-", "…": "..."}
PLAIN |= {"η": "eta", "ε": "eps", "γ": "gamma", "\u0304": "bar", "²": "^2", "†": "(!)"}


def main(command: Callable[[], int | None]) -> None:
    """Run a command and exit: 0 done, 1 crashed, 2 bad input, 3 busy, 128 + n for signal n.

    ``debug=true`` on the command line shows the traceback as well.
    """
    make_output_safe()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    wait_without_work()
    try:
        status = command() or 0
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        status = report(error)
        try:
            sys.stdout.flush()
        except OSError:  # which is the error, and would be one again at the exit
            cast(BestEffortStream, sys.stdout).discard()
    sys.exit(status)


def report(error: BaseException, where: str = "") -> int:
    """Print an error as one line, with `where` it came from; return its exit status."""
    debug = "debug=true" in (argument.lower() for argument in sys.argv)
    if debug and not isinstance(error, KeyboardInterrupt):
        traceback.print_exception(error)
    status, line = _explained(error)
    if not isinstance(error, KeyboardInterrupt | Busy | Stopped):
        where = f"error: {where}"
    if status == CRASHED and not isinstance(error, Crash) and not debug:
        line += " (debug=true shows where)"
    print(where + line, file=sys.stderr)
    return status


def _explained(error: BaseException) -> tuple[int, str]:
    """Return the exit status for an error, and what it says."""
    line = one_line(error)
    match error:
        case KeyboardInterrupt():
            return 130, "stopped: the same command goes on from the last checkpoint"
        case Stopped():
            return 128 + error.signum, line
        case Busy():
            return BUSY, line
        case UserError():
            return BAD_INPUT, line
        case Crash():
            return CRASHED, line
        case OSError() if error.errno in FULL:
            return BAD_INPUT, "the disk is full: free some space and give the same command again"
    return CRASHED, with_type(error)


class BestEffortStream:
    """A stream whose reader may leave: what cannot be written then is discarded.

    Of stderr this holds for all errors; of stdout others are raised, such as those of a full disk.
    """

    def __init__(self, stream: TextIO, raises: bool = False) -> None:
        self._stream, self._raises = stream, raises

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text if somebody takes it."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Hand over what was written, if somebody takes it."""
        self._try(self._stream.flush)

    def discard(self) -> None:
        """Let what is in the buffers, and all that follows, go nowhere."""
        with suppress(OSError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), self._stream.fileno())

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except BrokenPipeError:
            self.discard()
        except (OSError, ValueError):  # ValueError: it is closed
            if self._raises:
                raise


def make_output_safe() -> None:
    """Let no stream end what this process does: neither its encoding, nor a reader that leaves."""
    codecs.register_error("plain", _plain)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed; the lowest free descriptor is its own
            nowhere = open(os.devnull, "r+", encoding="utf-8")  # noqa: PTH123, SIM115
            os.set_inheritable(nowhere.fileno(), True)
            setattr(sys, name, nowhere)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, BestEffortStream):
            stream.reconfigure(errors="plain")
            setattr(sys, name, BestEffortStream(stream, raises=name == "stdout"))


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Spell signs that an encoding lacks, as `PLAIN` has them or else by their numbers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    spelled = (PLAIN.get(s) or s.encode("ascii", "backslashreplace").decode() for s in signs)
    return "".join(spelled), error.end
