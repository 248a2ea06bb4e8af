"""Runs for a page: with all that it can show, with names that are markup, and many."""

from dataclasses import replace
from functools import cache

import made_up_records as made_up
import numpy as np

from analysis.html.report import report_of
from analysis.html.runs import KnownRuns, run_columns
from analysis.tables.leaderboard import StepCost
from runner.run_record import RunFailure, RunRecord

EVIL = "<script>alert(1)</script>"
COSTS = {"dog": StepCost(4, 1.5), "sgd": StepCost(0, 0.66), "adam": StepCost(8, 6.62)}


def with_curve(content):
    points = [{"step": step, "loss": 1 / step, "eta": 0.01 * step} for step in (1, 2, 5, 100)]
    return content | {"curve": [*points, {"step": 100, "validation_last": 0.5}]}


def in_language():
    """A language task with L-DoG, and with batch normalization's two modes of a vision task."""
    for seed, change in ((100, 0.0), (0, 0.01), (1, -0.01)):
        where = {"task": "reviews_long", "seed": seed}
        yield made_up.record(0.80 + change, opt="dog", **where)
        yield made_up.record(0.81 + change, opt="ldog", **where)
        for rate, score in ((0.01, 0.7), (0.1, 0.83), (1.0, 0.6)):
            changed = made_up.with_rate(rate)
            yield made_up.record(score + change, changed=changed, **where)
    for mode, shift in (("frozen", 0.0), ("train", -0.3)):
        for start, score in ((1e-6, 0.6), (1e-4, 0.8), (1e-2, 0.7)):
            changed = {} if start == 1e-4 else {"reps_rel": start}
            where = {"task": "shirts", "batch_norm": mode, "seed": 0}
            yield made_up.record(0.5, score + shift, opt="dog", changed=changed, **where)


def probes():
    """A probe of DoG and L-DoG, which is in another leaderboard than all others."""
    for opt, score in (("dog", 0.80), ("ldog", 0.82)):
        for seed in (0, 1):
            yield made_up.record(score, opt=opt, seed=seed, task="probe_photos", budget="probe")


def evil():
    """A run of which every name is an element of HTML, as a class or a path may be."""
    content = made_up.record(0.8, opt="dog", task=EVIL, model=EVIL)
    content["settings"]["opt"]["name"] = "evil"
    content["opt_label"] = EVIL
    content["numerics"] = {"kernel": EVIL}
    content["results"]["trouble"] = [EVIL]
    return content


@cache
def page_runs():
    """All of them, and those of `made_up_records.example`.

    They are of tasks that no yaml file describes: composing one takes half a second.
    """
    made = []
    for content in (*made_up.example("photos"), *in_language(), *probes(), evil()):
        if content["settings"]["task"]["name"].startswith("reviews"):
            content["settings"]["task"]["domain"] = "language"
        kind = RunFailure if "error" in content else RunRecord
        made.append(kind.of(content if "error" in content else with_curve(content)))
    return KnownRuns(made)


@cache
def page_report():
    """What the page of these runs shows."""
    return report_of(page_runs(), f"All {EVIL}", costs=COSTS)


def many_runs(number):
    """Runs without a problem to read: each has a curve of its own, of digits that do not repeat."""
    random = np.random.RandomState(0)
    made = []
    for place in range(number):
        rate, score = 10.0 ** random.uniform(-4, 0), random.uniform()
        where = {"task": f"task{place % 10}", "seed": place, "changed": {"lr": rate}}
        content = made_up.record((score, score / 3), seconds=100 * score, **where)
        points = enumerate(random.uniform(size=(40, 2)), start=1)
        curve = [{"step": step, "loss": loss, "eta": eta} for step, (loss, eta) in points]
        for step in (200, 300, 400, 468):
            last, averaged = random.uniform(size=2)
            curve.append({"step": step, "validation_last": last, "validation_averaged": averaged})
        made.append(RunRecord.of(content | {"curve": curve}))
    return KnownRuns(made)


def large_report(number):
    """As much as the page of so many runs shows: some runs, many times over."""
    small, made, copies = page_report(), run_columns(many_runs(500), {}), number // 500
    runs = {
        name: column | {"index": copies * column["index"]} if "index" in column else copies * column
        for name, column in made.items()
    }
    runs["run_id"] = [f"{run_id}-{copy}" for copy in range(copies) for run_id in made["run_id"]]
    names = [str(place) for place in range(number // 50)]
    protocol, kind, *_, board = small.selections[0]
    return replace(
        small,
        runs=runs,
        boards=[board | {"table": repeated(board["table"], 5)} for board in small.boards],
        problems=[
            replace(problem, stem=problem.stem + name, table=repeated(problem.table, 5))
            for problem in small.problems
            for name in names[: number // 200]
        ],
        filters=small.filters | {"model": names, "task": names},
        selections=[
            *small.selections,
            *((protocol, kind, "", "", task, board) for task in names),
            *((protocol, kind, "", name, task, board) for name in names for task in ("", name)),
        ],
    )


def repeated(table, times):
    """A table with its lines several times."""
    return replace(table, rows=times * table.rows, links=times * table.links)
