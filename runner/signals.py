"""SIGINT and SIGTERM, held back until a step is done and saved."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Remembers which signal came, so that the training loop can end between two steps."""

    signum = 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Let SIGINT and SIGTERM do nothing within but be remembered."""
    request = StopRequest()
    with handled_by(request):
        yield request


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let SIGINT and SIGTERM call this within."""
    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
