"""What a comparison of optimizers on a user's data is made of, from what a run costs here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from tasks.errors import UserError
from tasks.format import duration, plural

DOG = "dog"
# What the protocol `lite` has for texts: at 125 steps DoG's default start costs up to 10 points
# (docs/start.md).
LEAST_STEPS = 400
# Without a protocol's word, no run passes over its data more often than this.
MOST_EPOCHS = 20
# With two seeds an interval says nothing; with more than five others things are worth the time.
FEWEST_SEEDS, SEEDS = 3, 5
# The part of the hours that an estimate may fill, and that what runs have taken may.
FILLED, MEASURED_FILLED = 0.8, 0.95


@dataclass(frozen=True)
class Times:
    """Seconds that a run takes here.

    Attributes:
        start: to read data and build the network.
        step: a step.
        scoring: to score both sets of weights at the end.
        train_examples: how many examples there are to train on.
    """

    start: float
    step: float
    scoring: float
    train_examples: int

    def of_run(self, steps: int) -> float:
        """Return the seconds of a run of so many steps."""
        return self.start + steps * self.step + self.scoring


@dataclass(frozen=True)
class Methods:
    """What is compared: optimizers without a learning rate, and the grids of those with one."""

    free: Sequence[str]
    grids: Mapping[str, Mapping[str, list[Any]]]

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [*self.free, *self.grids]


@dataclass(frozen=True)
class Design:
    """The size of a comparison."""

    steps: int
    seeds: int
    whole_grids: bool = True  # every rate of the optimizers' own grids; else every second
    every_method: bool = True  # all are reported; else DoG and what is best tuned by validation

    def names(self, methods: Methods) -> list[str]:
        """Return what is trained."""
        return methods.names if self.every_method else [DOG, *methods.grids]

    def grids(self, methods: Methods) -> dict[str, dict[str, list[Any]]]:
        """Return what is tried of each optimizer with a learning rate."""
        stride = 1 if self.whole_grids else 2
        return {
            name: {key: values[::stride] for key, values in grid.items()}
            for name, grid in methods.grids.items()
        }

    def runs(self, methods: Methods) -> int:
        """Return the greatest number of runs.

        That is each method without a learning rate and each rate once on the tuning seed; then on
        each seed these methods, and the default and the chosen rate of the others (or DoG and the
        one chosen rate); and the run whose trained model is kept.
        """
        rates = sum(len(v) for grid in self.grids(methods).values() for v in grid.values())
        free = len(self.names(methods)) - len(methods.grids)
        each_seed = free + 2 * len(methods.grids) if self.every_method else 2
        return free + rates + self.seeds * each_seed + 1

    def seconds(self, methods: Methods, times: Times, slots: int) -> float:
        """Return the expected time if so many runs train at once."""
        return self.runs(methods) * times.of_run(self.steps) / slots

    def hours(self, methods: Methods, times: Times, slots: int) -> float:
        """Return the hours that hold it, in tenths."""
        return math.ceil(self.seconds(methods, times, slots) / (FILLED * 360)) / 10

    def describe(self, methods: Methods) -> str:
        """Return it in a line."""
        grids = self.grids(methods)
        rates = ", ".join(
            f"{name} at {plural(sum(map(len, grid.values())), 'rate')}"
            for name, grid in grids.items()
        )
        free = "DoG alone"
        if self.every_method:
            free = f"{plural(len(methods.free), 'method')} without a learning rate"
        return (
            f"{self.steps} steps, {plural(self.seeds, 'seed')}, {rates}, {free}: "
            f"at most {plural(self.runs(methods), 'run')}"
        )


@dataclass(frozen=True)
class Spent:
    """What the runs of a comparison have taken."""

    seconds: float  # of all of them, one after another
    each: float  # of one that did not diverge
    slots: int  # how many train at once

    def seconds_of(self, more: int) -> float:
        """Return the expected time of so many runs more."""
        return more * self.each / self.slots

    def hours(self, more: int) -> float:
        """Return the hours that hold also so many runs more, and that whose model is kept."""
        seconds = self.seconds / self.slots + self.seconds_of(more + 1)
        return seconds / (MEASURED_FILLED * 3600)


def check_fixed(steps: int | None, seeds: int | None) -> None:
    """Refuse a number of steps or of seeds that allows no comparison.

    Raises:
        UserError: if one was given and is too small or too large.
    """
    if steps is not None and steps < LEAST_STEPS:
        raise UserError(f"steps={steps}: DoG needs at least {LEAST_STEPS} to be compared")
    if seeds is not None and not FEWEST_SEEDS <= seeds <= 50:
        raise UserError(f"seeds={seeds}: must be a number from {FEWEST_SEEDS} to 50")


def choose_design(
    hours: float,
    times: Times,
    batch_size: int,
    slots: int,
    methods: Methods,
    steps: int | None = None,
    seeds: int | None = None,
) -> Design:
    """Return the largest comparison that fits the hours, by a fixed rule.

    The smallest has `LEAST_STEPS` steps, `FEWEST_SEEDS` seeds, every second rate, and reports no
    more than the answer needs. What time is left buys first the other methods, then the whole
    grids, then up to `SEEDS` seeds, then steps, up to `MOST_EPOCHS` passes over the data. `steps`
    and `seeds` are fixed where they are given.

    Raises:
        UserError: if the smallest does not fit, with the hours that it takes.
    """

    def fits(design: Design) -> bool:
        return design.seconds(methods, times, slots) <= FILLED * 3600 * hours

    fewest = seeds or FEWEST_SEEDS
    best = Design(steps or LEAST_STEPS, fewest, whole_grids=False, every_method=False)
    if not fits(best):
        takes, each = best.seconds(methods, times, slots), times.of_run(best.steps)
        raise UserError(
            f"hours={hours:g} is too short: {best.describe(methods)}, {duration(takes)} here at "
            f"{duration(each)} a run: give hours={best.hours(methods, times, slots):g}; a smaller "
            "network (model=) or batch (train.batch_size=) takes less"
        )
    larger = [Design(best.steps, fewest, whole_grids=False)]
    larger += [Design(best.steps, more) for more in range(fewest, (seeds or SEEDS) + 1)]
    if steps is None:
        most = max(LEAST_STEPS, MOST_EPOCHS * times.train_examples // batch_size)
        larger += [Design(more, larger[-1].seeds) for more in _ladder(most)]
    for design in larger:
        if not fits(design):
            break
        best = design
    return best


def _ladder(most: int) -> list[int]:
    """Return numbers of steps, each about 1.4 times the one before: 600, 800, 1200, 1600, …

    Few of them, so that times that were measured a little differently give the same number.
    """
    found: list[int] = []
    for power in count():
        for steps in (3 * LEAST_STEPS * 2**power // 2, 4 * LEAST_STEPS * 2**power // 2):
            if steps > most:
                return found
            found.append(steps)
    return found
