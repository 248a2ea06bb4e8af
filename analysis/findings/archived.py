"""The archived runs as what is said of them needs them: by kind of problem, and by method."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from analysis.choice import DEFAULT, INSTANCE_TUNED, PORTFOLIO
from analysis.comparison import Comparison, LineKey, compare_problems, labels_of
from analysis.findings.pairs import Evidence, pairs_of
from analysis.findings.problems import PROTOCOL, of_kind
from analysis.findings.runs import ReportedRuns
from analysis.kinds import KINDS
from analysis.roles import TUNING_FREE
from analysis.tables.starts import Tried, tried_starts

DOG, LDOG = ("dog", DEFAULT), ("ldog", DEFAULT)
AUTO, LAUTO = ("dog_auto", DEFAULT), ("ldog_auto", DEFAULT)
SGD, ADAMW = ("sgd", INSTANCE_TUNED), ("adamw", INSTANCE_TUNED)
ADAM = ("adam", INSTANCE_TUNED)
# DoG and what is made of it: all other methods without a rate are its rivals.
FAMILY = ("dog", "ldog", "dog_auto", "ldog_auto", "dog_start", "tdog")


@dataclass(frozen=True)
class Archived:
    """Some runs, and what is made of them when it is asked for."""

    frame: pd.DataFrame  # as `records.gather` returns it
    _evidence: dict[Hashable, Evidence] = field(default_factory=dict)  # several tables ask for it

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Of all problems."""
        return compare_problems(self.frame)

    @cached_property
    def runs(self) -> ReportedRuns:
        """The reported runs."""
        return ReportedRuns(self.frame)

    @cached_property
    def by_kind(self) -> dict[str, list[Comparison]]:
        """The problems of each kind, at the protocol's own number of steps."""
        return {kind: of_kind(self.comparisons, kind) for kind in KINDS}

    @cached_property
    def tried(self) -> list[Tried]:
        """The starts that are found, beside fixed ones."""
        tried = tried_starts(self.comparisons, self.frame)
        return [each for each in tried if each.comparison.problem.protocol == PROTOCOL]

    @cached_property
    def labels(self) -> dict[str, str]:
        """The optimizers' names for readers."""
        return labels_of(self.comparisons)

    def label(self, line: LineKey) -> str:
        """Return the name of an optimizer, with its row where that is not the default."""
        name = self.labels.get(line[0], line[0])
        return name if line[1] in (DEFAULT, PORTFOLIO) else f"{name}, {line[1]}"

    def against(self, pair: tuple[LineKey, LineKey]) -> str:
        """Return "DoG against SGD, instance-tuned"."""
        return " against ".join(map(self.label, pair))

    def evidence(self, kind: str, pair: tuple[LineKey, LineKey]) -> Evidence:
        """Return what the problems of a kind say of a method against its rival."""
        return self._once((kind, pair), lambda: Evidence(pairs_of(self.by_kind[kind], *pair)))

    def averaged(self, kind: str, line: LineKey) -> Evidence:
        """Return what they say of a method's averaged weights against its last ones."""
        return self._once(
            (kind, line), lambda: Evidence(self.runs.iterates(self.by_kind[kind], line))
        )

    def _once(self, key: Hashable, make: Callable[[], Evidence]) -> Evidence:
        if key not in self._evidence:
            self._evidence[key] = make()
        return self._evidence[key]

    @cached_property
    def rivals(self) -> list[LineKey]:
        """The methods without a rate that are none of DoG's family, by label."""
        names = {
            cell.optimizer
            for comparisons in self.by_kind.values()
            for each in comparisons
            for cell in each.cells
            if cell.role == TUNING_FREE and cell.row == DEFAULT and cell.optimizer not in FAMILY
        }
        return [(name, DEFAULT) for name in sorted(names, key=lambda name: self.labels[name])]
