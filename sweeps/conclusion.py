"""What a comparison has found: the answer in words, the table, the code, the trained model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from analysis.answer import Answer, answer, best_tuned
from analysis.choice import (
    DEFAULT,
    INSTANCE_TUNED,
    comparable,
    iterate,
    settings_to_report,
    validation_score,
)
from analysis.comparison import Comparison, compare_problems, reported, scored
from analysis.html.page import write_page
from analysis.html.report import Answer as PageAnswer
from analysis.html.runs import KnownRuns
from analysis.statistics import gain
from analysis.tables.notes import EDGE, caveats_of
from analysis.tables.page import markdown
from analysis.tables.problems import LEFT, heading, shown_cells
from runner import snippet
from runner.archive import archive_beside
from runner.run import Job
from sweeps.design import DOG
from sweeps.driver import report_unfinished
from sweeps.executors.specs import ExecutorSpec
from sweeps.notebook import folder_of
from sweeps.plan import PlannedRun
from sweeps.progress import plain
from sweeps.trained import Trained, train_runs
from tasks.errors import UserError


@dataclass(frozen=True)
class Conclusion:
    """The answer, and what it rests on."""

    name: str  # of the data, for readers
    comparison: Comparison
    answer: Answer

    @property
    def settings(self) -> list[tuple[str, Mapping[str, Any]]]:
        """The optimizers that the answer is about, with what is changed in their defaults."""
        sides = [side.key for side in self.answer.sides]
        return [
            (choice.optimizer, choice.overrides)
            for choice in self.comparison.choices
            if (choice.optimizer, choice.row) in sides
        ]


def sides_by_validation(trained: Trained) -> list[tuple[str, Mapping[str, Any]]]:
    """What the answer will be about: DoG, and the best tuned optimizer with its chosen setting."""
    rival = best_tuned(comparable(trained.frame))
    ids = (run.run_id for run in trained.runs)
    chosen = settings_to_report(trained.frame, ids, [INSTANCE_TUNED])
    sides: list[tuple[str, Mapping[str, Any]]] = [(DOG, {})]
    if rival is not None:
        sides += [(rival, setting) for setting in chosen.get((trained.problem_id, rival), [])]
    return sides


def conclude(
    trained: Trained, name: str, look: int, constant: float, one_error: float
) -> Conclusion:
    """Answer from what was trained, on data of this name, at this look at the results.

    `constant` is the test score of always predicting the same, whichever scores best; `one_error`
    is how much of it a wrong answer takes.

    Raises:
        UserError: if no run has a result.
    """
    comparisons = compare_problems(trained.frame) if len(trained.frame) else []
    if not comparisons:
        raise UserError(f"no run has a result: {plain(trained.unfinished[0].detail)}")
    (comparison,) = comparisons
    rival = best_tuned(comparable(trained.frame))
    found = answer(comparison, rival, name, look, constant, one_error)
    return Conclusion(name, comparison, found)


def report(conclusion: Conclusion, trained: Trained, advice: str, chosen: ExecutorSpec) -> int:
    """Print the answer, the table, the code, and where the trained model and the page are.

    `advice` is what to do where more seeds would tell. Returns 1 if any run has no record.
    """
    sentences = [*conclusion.answer.sentences, *([advice] if advice else [])]
    print("", *sentences, "", _table(conclusion.comparison), "", sep="\n", flush=True)
    best, code = _best(conclusion, trained), ""
    if best:
        code = snippet.code_of(best.run.config.spec, best.weights == "averaged")
        code = f"# how {best.run.label} was trained\n{code}"
        print(code, "", sep="\n", flush=True)
    where = _export(best, trained, chosen) if best else "none: no run has finished"
    print(f"trained model: {where}")
    print(f"report: {_page(conclusion, trained, sentences, code)}")
    return report_unfinished(trained.unfinished)


def _page(conclusion: Conclusion, trained: Trained, sentences: list[str], code: str) -> str:
    """Write the comparison as a page; say where it is, or why there is none."""
    config = trained.sweep.cells[0].config
    runs_dir, mine = config.execution.runs, {run.run_id for run in trained.runs}
    runs = KnownRuns.gather(runs_dir, archive_beside(runs_dir)).only(mine)
    path = folder_of(config) / "report.html"
    title = f"{conclusion.name} with {config.spec.model.name}"
    try:
        write_page(path, runs, title, PageAnswer(sentences, code))
    except UserError as error:
        return f"none: {error}"
    return str(path)


def _table(comparison: Comparison) -> str:
    cells = [cell for cell in comparison.cells if cell.row in (DEFAULT, INSTANCE_TUNED)]
    shown = shown_cells(comparison.problem, cells).drop(columns=["last", "averaged"])
    notes = [EDGE] if any(cell.edge for cell in cells) else []
    table = [heading(comparison.problem), markdown(shown, LEFT), *notes, *caveats_of(comparison)]
    return "\n\n".join(table)


@dataclass(frozen=True)
class Best:
    """The run whose trained model is kept."""

    run: PlannedRun
    weights: str  # averaged or last: the better ones on validation
    text: str  # its test score


def _best(conclusion: Conclusion, trained: Trained) -> Best | None:
    """Return the best run by validation of what is to be used; if that is open, of both sides."""
    runs = reported(trained.frame)
    runs = scored(runs[runs["status"] == "finished"])
    sides = [(side.optimizer, side.setting) for side in conclusion.answer.sides]
    runs = runs[[pair in sides for pair in zip(runs["optimizer"], runs["setting"], strict=True)]]
    if runs.empty:
        return None
    score = gain(validation_score(runs), runs["higher_is_better"])
    ranked = runs.assign(score=score, weights=iterate(runs))
    row = ranked.sort_values(["score", "seed"], ascending=[False, True]).iloc[0]
    run = trained.run(row["optimizer"], json.loads(row["overrides"]), int(row["seed"]))
    return Best(run, row["weights"], f"test {row['metric']} {row['test']:.4f}")


def _export(best: Best, trained: Trained, chosen: ExecutorSpec) -> str:
    """Train the best run again, to keep its model; say where it is, or why there is none.

    In a folder of runs of its own: which run is the best is known only when all are done.
    """
    runs_dir = best.run.config.execution.runs
    folder = runs_dir.parent / "models" / "runs"
    execution = best.run.config.execution.replaced(export=best.weights, runs_dir=str(folder))
    job = Job.of(replace(best.run.config, execution=execution))
    run = PlannedRun(job.config, best.run.label, job.folder)
    model = job.folder.model(best.weights)
    if not model.is_dir():  # what was taken away is made again
        job.folder.record.unlink(missing_ok=True)
    for outcome in train_runs("trained model", [run], trained.estimator, chosen):
        if outcome.status == "stopped":
            raise UserError("stopped: give the same command again")
        return f"none: {plain(outcome.detail)}"
    return f"{model} ({best.run.label}, {best.text}; docs/models.md)"
