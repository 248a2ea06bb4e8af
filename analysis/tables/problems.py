"""The table of each problem, and the summary of all."""

from collections.abc import Iterable, Sequence

import pandas as pd

from analysis.choice import OF_TASK, left_out_of_other_data, old_versions
from analysis.comparison import Cell, Comparison, frame_of
from analysis.roles import TUNED
from analysis.tables.notes import notes_of, of_old_versions, other_data, unit
from analysis.tables.page import Page, count, markdown, score_text, signed
from tasks.format import NONE, duration

# What identifies a problem in a CSV, and the columns of its cells there. Scores, half widths and
# RED are fractions; "hours" includes tuning; "tried" counts crashed seeds.
_OF_PROBLEM = ["problem_id", "task", "task_version", "model", "protocol", "protocol_version"]
_OF_PROBLEM += ["metric", "steps", "batch_size", "train_examples"]
IDENTITY = [*_OF_PROBLEM, "variant"]
CELLS = ["optimizer", "label", "row", "setting", "edge", "test", "test_half_width", "last"]
CELLS += ["averaged", "red", "red_of_pairs", "seeds", "tried", "diverged", "runs", "hours"]

LEFT = ["task", "model", "protocol", "optimizer", "row"]


def page_of_problem(comparison: Comparison) -> Page:
    """The table of a problem."""
    return Page(
        stem=comparison.stem,
        exact=exact_cells(comparison, comparison.cells),
        title=comparison.title,
        head=heading(comparison.problem),
        shown=shown_cells(comparison.problem, comparison.cells),
        left=LEFT,
        notes=notes_of(comparison),
        latex=True,
    )


def page_of_summary(pages: Sequence[tuple[Comparison, Page]], frame: pd.DataFrame) -> Page:
    """The summary of all problems: their tables below each other."""
    parts = []
    for comparison, page in pages:
        assert page.shown is not None
        score = unit(comparison.problem)
        cells = page.shown.rename(columns={score: "test"}).drop(columns=["last", "averaged"])
        cells.insert(0, "table", f"[{comparison.stem}]({comparison.address})")
        cells.insert(1, "steps", count(comparison.problem.steps))
        cells.insert(5, "metric", score)
        parts.append(cells)
    links = ", ".join(
        f"[{name}]({name})" for name in names_of_models(comparison for comparison, _ in pages)
    )
    return Page(
        stem="summary",
        exact=pd.concat(page.exact for _, page in pages),
        title="All results",
        shown=pd.concat(parts),
        left=[*LEFT, "table", "metric"],
        notes=[
            "The tables linked explain rows and columns.",
            f"Over all tasks of a model, with intervals and verdicts: {links}.",
            *of_old_versions(old_versions(frame)),
            *other_data(left_out_of_other_data(frame).sum()),
        ],
    )


def names_of_models(comparisons: Iterable[Comparison]) -> list[str]:
    """The names of the tables over all tasks of a model (`tables.models`): one a protocol."""
    protocols = {comparison.problem.protocol for comparison in comparisons}
    return [f"models-{protocol}.md" for protocol in sorted(protocols)]


def render(comparisons: Iterable[Comparison], problem_ids: Sequence[str]) -> str:
    """The tables of the given problems (ids or their beginnings) for the terminal."""
    wanted = [
        comparison
        for comparison in comparisons
        if comparison.problem.problem_id.startswith(tuple(problem_ids))
    ]
    return "\n\n".join(f"{page.title}\n\n{page.body}" for page in map(page_of_problem, wanted))


def short_table(comparison: Comparison) -> str:
    """A problem's name and its rows that rest on its own runs, with the columns of most use."""
    problem = comparison.problem
    cells = [cell for cell in comparison.cells if cell.row in OF_TASK]
    seeds = sorted({cell.seeds for cell in cells if cell.seeds})
    title = (
        f"**{comparison.title}**: {count(problem.steps)} steps, "
        f"{count(problem.train_examples)} training examples, "
        f"{' or '.join(map(str, seeds))} {'seed' if seeds == [1] else 'seeds'}"
    )
    shown = shown_cells(problem, cells).drop(columns=["last", "averaged", "seeds", "diverged"])
    return f"{title}\n\n{markdown(shown, LEFT)}"


def heading(problem: pd.Series) -> str:
    """What the numbers of a problem's table rest on, in a line."""
    better = "higher" if problem.higher_is_better else "lower"
    sizes = {
        "training": count(problem.train_examples),
        "validation": count(problem.validation_examples),
        "test": count(problem.test_examples),
    }
    examples = ", ".join(f"{size} {split}" for split, size in sizes.items())
    return (
        f"Test {problem.metric} ({better} is better) after {count(problem.steps)} steps "
        f"of batch size {count(problem.batch_size)}; {examples} examples; "
        f"task version {problem.task_version}; problem {problem.problem_id}."
    )


def shown_cells(problem: pd.Series, cells: Sequence[Cell]) -> pd.DataFrame:
    """The cells of a table as a reader sees them: text, in named columns."""
    return pd.DataFrame(
        {
            "optimizer": [cell.label for cell in cells],
            "row": [cell.row for cell in cells],
            "learning rate": [_learning_rate(cell) for cell in cells],
            unit(problem): [_mean_and_width(cell, problem) for cell in cells],
            "last": [score_text(cell.last, problem) for cell in cells],
            "averaged": [score_text(cell.averaged, problem) for cell in cells],
            "RED %": ["reference" if cell.is_reference else signed(cell.red) for cell in cells],
            "seeds": [f"{cell.seeds}/{cell.tried}" if cell.tried else NONE for cell in cells],
            "diverged": [str(cell.diverged) if cell.seeds else NONE for cell in cells],
            "runs": [str(cell.runs) for cell in cells],
            "time": [duration(3600 * cell.hours) for cell in cells],
        }
    )


def _mean_and_width(cell: Cell, problem: pd.Series) -> str:
    mean, width = score_text(cell.test, problem), score_text(cell.test_half_width, problem)
    return mean if width == NONE else f"{mean} ± {width}"


def _learning_rate(cell: Cell) -> str:
    """The setting in short: "0.01 †" for a rate at the grid's edge, "none" for DoG."""
    parts = [part.split("=", 1) for part in cell.setting.split(" ") if part]
    short = [value if key == "lr" else f"{key}={value}" for key, value in parts]
    # A tuned optimizer whose default was never run has no known rate; the others need none.
    unknown = NONE if cell.role == TUNED else "none"
    return (", ".join(short) or unknown) + (" †" if cell.edge else "")


def exact_cells(comparison: Comparison, cells: Sequence[Cell]) -> pd.DataFrame:
    """Cells beside what identifies their problem, rounded below any real difference."""
    identity = pd.DataFrame([comparison.problem[_OF_PROBLEM]] * len(cells), columns=_OF_PROBLEM)
    identity = identity.reset_index(drop=True).assign(variant=comparison.variant)
    return pd.concat([identity, frame_of(cells)[CELLS].round(8)], axis=1)
