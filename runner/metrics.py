"""What a run logs while it trains: the lines of metrics.jsonl."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO

from runner.record import RunFolder, to_json
from runner.training_state import TrainingState


class MetricsLog:
    """Appends lines of JSON to metrics.jsonl."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def __call__(self, line: Mapping[str, float]) -> None:
        self.file.write((to_json(line) + "\n").encode())
        self.file.flush()

    def size(self) -> int:
        """Return the length so far, in bytes."""
        return self.file.tell()


@contextmanager
def metrics_file(folder: RunFolder, state: TrainingState) -> Iterator[MetricsLog]:
    """Open metrics.jsonl, without the lines that came after the checkpoint."""
    folder.metrics.touch()
    with folder.metrics.open("r+b") as file:
        file.truncate(state.metrics_bytes)
        file.seek(0, 2)
        yield MetricsLog(file)
