"""The kinds of problem, by what is trained: evidence of one is never mixed with that of another."""

from collections.abc import Collection
from functools import cache

import pandas as pd

from runner import CONFIGS
from runner.yamls import read_yaml

FINE_TUNING, PROBES, SCRATCH = "fine-tuning", "probes", "from random weights"
# Those that findings and leaderboards are about.
KINDS = (FINE_TUNING, PROBES)

# Tasks whose texts are another's, too (docs/protocol.md): they are no independent draws of tasks.
SAME_TEXTS = {"rotten_tomatoes": "movies", "reuters_r52": "reuters_r8"}
SAME_TEXTS |= {f"probe_{task}": f"probe_{other}" for task, other in SAME_TEXTS.items()}


def is_independent(task: str, tasks: Collection[str]) -> bool:
    """Return whether a task counts among these: not where they hold the one of the same texts."""
    return SAME_TEXTS.get(task) not in tasks


def kind_of_training(problem: pd.Series) -> str | None:
    """Return what is trained on a problem, of whatever protocol; None of none of the kinds."""
    if problem.budget == "probe":
        return PROBES
    if problem.budget in ("vision", "language"):
        return FINE_TUNING if _is_pretrained(problem.model) else SCRATCH
    return None


def stem_of(kind: str) -> str:
    """Return a kind as names of files have it."""
    return kind.replace("-", "_").replace(" ", "_")


@cache
def _is_pretrained(model: str) -> bool:
    path = CONFIGS / "model" / f"{model}.yaml"
    return not path.exists() or "weights" in read_yaml(path)
