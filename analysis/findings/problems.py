"""Which problems count as evidence, by their kind, and which are planned."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from analysis.comparison import Comparison
from analysis.kinds import is_independent
from analysis.variants import departures, has_other_steps, settings
from runner import CONFIGS
from runner.yamls import read_yaml

PROTOCOL = "lite"
SWEEP = "campaign"
COMMAND = f"`make sweep SWEEP={SWEEP}`"

TRAINED_STATISTICS = "model.batch_norm=train"


def kind_of(comparison: Comparison) -> str | None:
    """Return the kind of a problem of the protocol; None of one that is no evidence."""
    return comparison.kind if comparison.problem.protocol == PROTOCOL else None


def of_kind(comparisons: Iterable[Comparison], kind: str) -> list[Comparison]:
    """Return the problems of a kind at the protocol's own number of steps."""
    return [
        each for each in comparisons if kind_of(each) == kind and not has_other_steps(each.problem)
    ]


def first_of_each_task(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Return a problem of each task: with its own network, and no setting that is not its own.

    Where there is none, that which comes first by `variants.rank`. Tasks of the same texts count
    as one.
    """
    firsts: dict[str, Comparison] = {}
    for each in sorted(comparisons, key=_order):
        firsts[each.problem.task] = each
    return [each for task, each in firsts.items() if is_independent(task, firsts)]


def _order(comparison: Comparison) -> tuple[bool, int]:
    problem = comparison.problem
    return problem.model == own_network(problem.task), int(problem["rank"])


@cache
def own_network(task: str) -> str:
    """Return the network that a task's yaml chooses, or one that it rests on; "" if none does.

    (To compose the task takes a hundred times as long.)
    """
    path = CONFIGS / "task" / f"{task}.yaml"
    content: Any = read_yaml(path) if path.exists() else {}
    network = ""
    for entry in content.get("defaults", []):
        if isinstance(entry, dict):
            network = entry.get("override /model@_global_.model", network)
        else:
            network = own_network(entry.partition("@")[0]) or network
    return network


def name_of(comparison: Comparison) -> str:
    """Return a problem's name: its task and network, and what is not the protocol's own."""
    problem = comparison.problem
    return ", ".join([f"{problem.task} · {problem.model}", *departures(problem)])


@dataclass(frozen=True)
class Planned:
    """A problem that sweeps are to train."""

    task: str
    model: str
    settings: tuple[str, ...]  # that the sweeps set: the protocol's own may be among them
    seeds: dict[str, set[int]]  # of each optimizer, that are reported
    varied: dict[tuple[str, str], dict[Any, set[int]]]  # the same of its arguments' values

    @property
    def name(self) -> str:
        """As `name_of`."""
        return ", ".join([f"{self.task} · {self.model}", *self.settings])

    def is_of(self, comparison: Comparison) -> bool:
        """Return whether this is the comparison's problem."""
        problem = comparison.problem
        if (problem.task, problem.model) != (self.task, self.model) or kind_of(comparison) is None:
            return False
        there = {f"{key}={value}" for key, value in settings(problem).items()}
        return set(departures(problem)) <= set(self.settings) <= there


def planned(*sweeps: str) -> Iterable[Planned]:
    """Return the problems of sweeps' yamls, each once."""
    paths = [CONFIGS / "sweep" / f"{sweep}.yaml" for sweep in sweeps]
    contents: list[Any] = [read_yaml(path) for path in paths]
    found: dict[tuple, Planned] = {}
    for part in (part for content in contents for part in content["parts"]):
        words = [word for word in part["overrides"] if not word.startswith("wandb.")]
        models = [word.partition("=")[2] for word in words if word.startswith("model=")]
        others = tuple(word for word in words if not word.startswith("model="))
        for task in part["tasks"]:
            key = (task, models[0] if models else own_network(task), others)
            plan = found.setdefault(key, Planned(*key, {}, {}))
            for optimizer in part["optimizers"]:
                plan.seeds.setdefault(optimizer, set()).update(part["seeds"])
            for optimizer, grid in part.get("vary", {}).items():
                for argument, values in grid.items():
                    varied = plan.varied.setdefault((optimizer, argument), {})
                    for value in values:
                        varied.setdefault(value, set()).update(part["seeds"])
    return found.values()
