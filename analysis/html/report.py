"""All that the page shows: typed objects, made from those that the tables are made from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison import Comparison, compare_problems, labels_of
from analysis.figures.data import FigureData
from analysis.html.board_charts import forest, pareto, profile
from analysis.html.boards import ANY, Boards, boards_of, protocols_of, table_of_board
from analysis.html.charts import Chart
from analysis.html.duels import duels, names_of, rivals, scopes_of, subjects
from analysis.html.findings import (
    Finding,
    Statement,
    best_lines,
    best_starts,
    step_cost,
    verdicts,
)
from analysis.html.other_charts import batch_norm_charts, budget_charts, run_charts
from analysis.html.paper import paper_charts, paper_tables
from analysis.html.problem_charts import problem_charts
from analysis.html.runs import KnownRuns, run_columns
from analysis.html.table import Table, fragment, table_of
from analysis.kinds import KINDS
from analysis.tables.leaderboard import StepCosts
from analysis.tables.models import pages_of_models
from analysis.tables.notes import unit
from analysis.tables.page import Page, bounds, signed
from analysis.tables.problems import page_of_problem
from analysis.tables.sensitivity import tables_of_sensitivity
from analysis.tables.starts import Tried, pages_of_tried, regrets_of, tried_starts
from tasks.errors import UserError
from tasks.format import NONE, plural

START = "Which start (reps_rel, length of the first step), with batch normalization and without?"
STEP = "What does a step of the optimizer cost, forward and backward pass aside?"


@dataclass(frozen=True)
class Answer:
    """What a comparison of one's own has found: words, and code to paste."""

    sentences: Sequence[str]
    code: str = ""


@dataclass(frozen=True)
class Problem:
    """What the page shows of a problem."""

    stem: str
    title: str
    kind: str  # of training, and the domain: words to search its runs by
    table: Table
    cells: dict[str, dict[str, Any]]  # by "optimizer/row": its numbers and runs
    charts: Sequence[Chart]
    sensitivity: Table | None


@dataclass(frozen=True)
class Report:
    """All that the page shows."""

    title: str
    subtitle: str
    answer: Answer | None
    protocol: str  # of which the findings are
    findings: Sequence[Finding]
    boards: Sequence[dict[str, Any]]
    filters: dict[str, list[str]]
    selections: Sequence[tuple[Any, ...]]  # a choice of each filter, and the place of its board
    duels: dict[str, Any]  # by protocol, if it has any
    problems: Sequence[Problem]
    budgets: Sequence[Chart]
    normalization: Sequence[Chart]
    tables: Sequence[Table]
    paper_charts: Sequence[Chart]
    paper_tables: Sequence[Table]
    run_charts: Mapping[str, Chart]
    runs: dict[str, Any] = field(repr=False)


def report_of(
    runs: KnownRuns, title: str, answer: Answer | None = None, costs: StepCosts | None = None
) -> Report:
    """All that the page of some runs shows."""
    if runs.frame.empty:
        raise UserError("no runs to report: run `make demo` first")
    costs = costs or {}
    frame = runs.frame
    comparisons = compare_problems(frame)
    data = FigureData.from_records(comparisons, frame, runs.curves)
    boards = boards_of(comparisons, costs)
    normalization = list(batch_norm_charts(data))
    sensitivity = tables_of_sensitivity(comparisons, frame)
    places = {each.problem.problem_id: place for place, each in enumerate(comparisons)}
    row_of = {run_id: row for row, run_id in enumerate(frame["run_id"])}
    tried = list(tried_starts(comparisons, frame))
    starts = list(best_starts(normalization, regrets_of(tried)))
    return Report(
        title=title,
        subtitle=_subtitle(frame, comparisons),
        answer=answer,
        protocol=next(iter(protocols_of(comparisons))),
        findings=[] if answer else list(_findings(comparisons, boards, starts, costs)),
        boards=[_board(boards, place) for place in range(len(boards.boards))],
        filters=boards.options(),
        selections=[(*choice, place) for choice, place in boards.places.items()],
        duels=_duels(comparisons),
        problems=[
            _problem(data, comparison, row_of, sensitivity.get(comparison.stem))
            for comparison in comparisons
        ],
        budgets=list(budget_charts(data)),
        normalization=[chart for chart, _ in normalization],
        tables=_tables(comparisons, tried, costs),
        paper_charts=[] if answer else list(paper_charts(comparisons)),
        paper_tables=[] if answer else list(paper_tables(frame)),
        run_charts=run_charts(),
        runs=run_columns(runs, places),
    )  # fmt: skip


def _subtitle(frame: pd.DataFrame, comparisons: Sequence[Comparison]) -> str:
    started = frame["started"][frame["started"] != ""].str[:10]
    days = f", trained {started.min()} to {started.max()}" if len(started) else ""
    optimizers = plural(frame["optimizer"].nunique(), "optimizer")
    problems = plural(len(comparisons), "problem")
    return f"{len(frame):,} runs of {optimizers} on {problems}{days}"


def _findings(
    comparisons: Sequence[Comparison],
    boards: Boards,
    starts: Sequence[Statement],
    costs: StepCosts,
) -> Iterator[Finding]:
    """The answers: those of verdicts and places are of the protocol with the most problems."""
    protocol, of_protocol = next(iter(protocols_of(comparisons).items()))
    mine, against = subjects(of_protocol), rivals(of_protocol)
    yield from verdicts(scopes_of(of_protocol), mine, against, names_of(of_protocol))
    for kind in KINDS:
        place = boards.places.get((protocol, kind, ANY, ANY, ANY))
        if place is not None:
            yield best_lines(boards.boards[place], fragment("leaderboard", protocol, kind))
    if starts:
        yield Finding(START, starts)
    steps = list(step_cost(labels_of(of_protocol), costs, [*mine[:1], *against]))
    if steps:
        yield Finding(STEP, steps)


def _board(boards: Boards, place: int) -> dict[str, Any]:
    board, name = boards.boards[place], f"board{place}"
    return {
        "name": name,
        "table": table_of_board(board, name),
        "problems": [each.stem for each in board.problems],
        "charts": [pareto(board), forest(board), profile(board)],
    }


def _duels(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The verdicts of each protocol: those of every subject, rival and scope."""
    stems = {each.stem: place for place, each in enumerate(comparisons)}
    found = {}
    for protocol, of_protocol in protocols_of(comparisons).items():
        scopes, mine, others = scopes_of(of_protocol), subjects(of_protocol), rivals(of_protocol)
        names = names_of(of_protocol)
        cells = []
        for place, scope in enumerate(scopes):
            for subject in mine:
                for duel in duels(scope, subject, others):
                    evidence = duel.evidence
                    low, high = evidence.interval
                    interval = NONE if np.isnan(low) else bounds(low, high)
                    pair = mine.index(subject), others.index(duel.rival)
                    over, left = (
                        [stems[stem] for stem in part] for part in (duel.problems, duel.left_out)
                    )
                    texts = [signed(evidence.red), interval, duel.verdict]
                    cells.append([place, *pair, *texts, over, left, evidence.is_for_other_tasks])
        if not cells:
            continue
        found[protocol] = {
            "scopes": [scope.name for scope in scopes],
            "subjects": [[*key, names[key]] for key in mine],
            "rivals": [[*key, names[key]] for key in others],
            "cells": cells,
        }
    return found


def _problem(
    data: FigureData,
    comparison: Comparison,
    row_of: Mapping[str, int],
    sensitivity: Page | None,
) -> Problem:
    problem, cells = comparison.problem, comparison.cells
    table = table_of(
        page_of_problem(comparison),
        links=[fragment("cell", comparison.stem, *cell.key) for cell in cells],
        linked=["optimizer", unit(problem), "RED %"],
    )
    of_cells = {
        f"{cell.optimizer}/{cell.row}": {
            "runs": [row_of[run_id] for run_id in cell.run_ids],
            "tuning": sorted(row_of[run_id] for run_id in cell.tuning_ids),
        }
        for cell in cells
    }
    return Problem(
        stem=comparison.stem,
        title=comparison.title,
        kind=f"{comparison.kind or ''} {problem.domain}".strip(),
        table=table,
        cells=of_cells,
        charts=list(problem_charts(data, comparison)),
        sensitivity=table_of(sensitivity) if sensitivity else None,
    )


def _tables(
    comparisons: Sequence[Comparison], tried: Sequence[Tried], costs: StepCosts
) -> list[Table]:
    """The tables of all problems: those of `make tables`, and what a step costs."""
    pages = [*pages_of_models(comparisons), *pages_of_tried(tried)]
    tables = [table_of(page) for page in pages]
    if costs:
        labels = labels_of(comparisons)
        ordered = sorted(costs.items(), key=lambda item: item[1].ratio)
        shown = pd.DataFrame(
            {
                "optimizer": [labels.get(name, name) for name, _ in ordered],
                "time of a step, × fused SGD momentum": [
                    f"{cost.ratio:.2f}" for _, cost in ordered
                ],
                "memory, bytes a parameter": [f"{cost.memory:.0f}" for _, cost in ordered],
            }
        )
        notes = [
            "time of a step: the median over networks; an optimizer is timed as its yaml makes it. "
            "memory: of optimizer state and averaged copies.",
            "`make bench` measures both, and says on which machine.",
        ]
        page = Page("step-costs", shown, "What a step costs", "", shown, ["optimizer"], notes)
        tables.append(table_of(page))
    return tables
