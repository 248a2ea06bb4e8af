"""What a run logs while it trains: the lines of metrics.jsonl."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import BinaryIO

from torch.optim import Optimizer

from runner.record import RunFolder, to_json
from runner.training_state import TrainingState

# What is logged of a DoG optimizer's telemetry.
TELEMETRY = ("eta", "rbar", "G", "gradient_norm", "distance", "skipped")


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


def step_size(optimizer: Optimizer) -> dict[str, float]:
    """Return what is logged of an optimizer: DoG's telemetry, or the learning rate."""
    telemetry = getattr(optimizer, "telemetry", None)
    if telemetry is None:
        return {"lr": optimizer.param_groups[0]["lr"]}
    return step_size_of(telemetry())


def step_size_of(telemetry: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return what is logged of a DoG optimizer's telemetry, which has a dict for each step size.

    Of several step sizes it is the median of each number, and the range of η.
    """
    if not telemetry:  # no parameter has had a gradient yet
        return {}
    numbers = {name: median(row[name] for row in telemetry) for name in TELEMETRY}
    if len(telemetry) > 1:
        etas = [row["eta"] for row in telemetry]
        numbers |= {"eta_min": min(etas), "eta_max": max(etas)}
    return numbers
