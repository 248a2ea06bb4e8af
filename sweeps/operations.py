"""What a run costs by the operations of its network, where no earlier run tells its time."""

import csv
from functools import cache

from runner import ROOT
from runner.specs import RunSpec

# Operations of a training step by the example, by model and size (pixels a side, or tokens).
COUNTED = ROOT / "results" / "paper" / "operations.csv"
# What one data-centre GPU may sustain in such training: an assumption, not a measurement of ours.
ASSUMED_TERAFLOPS = 20.0
# Forward and backward are three times forward, which is all that evaluation does.
FORWARD = 1 / 3


def gpu_seconds(spec: RunSpec) -> float | None:
    """Return the seconds of a run on such a GPU; None of a network that was not counted.

    The steps of convex probes take milliseconds on a CPU and are not counted, either.
    """
    size = spec.train.image_size or spec.train.max_tokens or 0
    gigaflops = _counted().get((spec.model.name, size))
    if gigaflops is None or spec.task.budget == "probe":
        return None
    return examples_of(spec) * gigaflops / (ASSUMED_TERAFLOPS * 1e3)


def examples_of(spec: RunSpec) -> float:
    """Return a run's examples as training costs them, evaluation of both iterates included."""
    train, examples = spec.train, spec.task.data.examples if spec.task.data else {}
    test = train.test_examples or examples.get("test", 0)
    validation = train.validation_examples or examples.get("validation", test)
    evaluations = train.steps // train.eval_every + 1
    evaluated = 2 * (evaluations * validation + test)
    return float(train.steps * train.batch_size + FORWARD * evaluated)


@cache
def _counted() -> dict[tuple[str, int], float]:
    with COUNTED.open(encoding="utf-8", newline="") as file:
        return {
            (row["model"], int(row["size"])): float(row["gigaflops"])
            for row in csv.DictReader(file)
        }
