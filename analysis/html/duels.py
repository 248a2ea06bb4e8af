"""Whether one optimizer is as good as another over some problems: the verdicts of the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analysis.choice import INSTANCE_TUNED, MAIN_ROW, PORTFOLIO
from analysis.comparison import Cell, Comparison, LineKey
from analysis.findings.pairs import Evidence, judged, pairs_of
from analysis.kinds import FINE_TUNING, PROBES, SCRATCH
from analysis.roles import REFERENCE, TUNED
from analysis.tables.models import Line, groups_of, lines_of
from analysis.variants import has_other_steps


@dataclass(frozen=True)
class Scope:
    """Some problems of one protocol that verdicts are about."""

    name: str  # for readers
    problems: Sequence[Comparison]
    is_network: bool = False  # the problems of one network; else of a kind, or of a domain


@dataclass(frozen=True)
class Duel:
    """How a rival's errors compare with a subject's over the problems that both have.

    As in docs/findings.md: for other tasks like these where there are enough, else for other seeds
    on these problems.
    """

    scope: Scope
    subject: LineKey
    rival: LineKey
    evidence: Evidence

    @property
    def problems(self) -> list[str]:
        """What it is over, by stem."""
        return [pair.comparison.stem for pair in self.evidence.judged_pairs]

    @property
    def left_out(self) -> list[str]:
        """The problems that it is not over: one seed, or another of a task, or of its texts."""
        stems = [pair.comparison.stem for pair in self.evidence.all_pairs]
        return [stem for stem in stems if stem not in self.problems]

    @property
    def verdict(self) -> str:
        """What is said of the subject."""
        return judged(self.evidence.interval)


def name_of(cell: Cell) -> str:
    """The optimizer and its row for readers: "tuned SGD"."""
    if cell.row == INSTANCE_TUNED:
        return f"tuned {cell.label}"
    return f"{cell.label}, default settings" if cell.role == TUNED else cell.label


def names_of(comparisons: Sequence[Comparison]) -> dict[LineKey, str]:
    """The names of all lines."""
    return {key: name_of(lines[0].cell) for key, lines in lines_of(comparisons).items()}


def scopes_of(comparisons: Sequence[Comparison]) -> list[Scope]:
    """Of the problems of one protocol: those of each kind, of its domains, and of each network.

    Kinds are never mixed. Those of a kind are at the protocol's own number of steps; of a network
    there is one variant of each task (`tables.models.groups_of`).
    """
    own_steps = [each for each in comparisons if not has_other_steps(each.problem)]
    found = []
    for kind in (FINE_TUNING, PROBES, SCRATCH):
        of_kind = [each for each in own_steps if each.kind == kind]
        domains = sorted({each.problem.domain for each in of_kind})
        if of_kind:
            found.append(Scope(kind, of_kind))
        for domain in domains if len(domains) > 1 else []:
            of_domain = [each for each in of_kind if each.problem.domain == domain]
            found.append(Scope(f"{domain} {kind}", of_domain))
    for (*_, budget, model), group in groups_of(comparisons):
        found.append(Scope(f"{model}{' probe' if budget == 'probe' else ''}", group, True))
    return found


def subjects(comparisons: Sequence[Comparison]) -> list[LineKey]:
    """The lines that need no tuning, those on the most problems first; the reference before all."""
    lines = {
        key: same
        for key, same in lines_of(comparisons).items()
        if same[0].cell.role != TUNED and key[1] == MAIN_ROW[same[0].cell.role]
    }
    return sorted(
        (key for key, same in lines.items() if _with_errors(same)),
        key=lambda key: (
            lines[key][0].cell.role != REFERENCE,
            -len(_with_errors(lines[key])),
            key,
        ),
    )


def rivals(comparisons: Sequence[Comparison]) -> list[LineKey]:
    """What a subject is compared with: each optimizer tuned on the problem, then those untuned."""
    lines = lines_of(comparisons)
    order = {
        key: (not tuned, -len(_with_errors(same)), len(same[0].cell.label), same[0].cell.label)
        for key, same in lines.items()
        for tuned in [key[1] == INSTANCE_TUNED]
        if _with_errors(same) and (tuned or key[1] in (*MAIN_ROW.values(), PORTFOLIO))
    }
    return sorted(order, key=lambda key: (order[key], key))


def _with_errors(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.cell.errors]


def duels(scope: Scope, subject: LineKey, against: Sequence[LineKey]) -> Iterator[Duel]:
    """The subject against each rival, over those of the scope's problems that both have."""
    for rival in against:
        pairs = pairs_of(scope.problems, subject, rival) if rival != subject else []
        if pairs:
            yield Duel(scope, subject, rival, Evidence(pairs))
