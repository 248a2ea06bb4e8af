"""Compares DoG with tuned optimizers on your own data: python compare.py data=PATH [key=value ...]

It reads the data, times a few steps here, says what it will train, trains it, and answers in words
whether a learning rate must be tuned. The same command again goes on, or answers at once.

data=         a folder of folders of images, or a table of texts (docs/own_data.md)
model=        default: efficientnet_lite0 or minilm; timm:NAME, hf:FOLDER, ... (docs/models.md)
hours=1       how long it may take here
text= second_text= label=   columns of a table; kind=classification or regression
metric=       of the task: accuracy, balanced_accuracy, macro_f1
rivals=true   also other methods without a learning rate
steps= seeds= fix what is chosen by the time otherwise
executor= executor.key= jobs=   what trains, as for sweeps (docs/sweeps.md)
--dry-run     only says what it would train, and how long that takes

device=, threads=, data_dir=, runs_dir= (default mine/runs) and keys with a dot, such as
train.image_size=128, hold for every run (docs/keys.md).
"""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import TUNING_SEED, snippet
from runner import config as configuration
from runner.config import Config
from runner.downloads import fetch_all
from sweeps import driver, executors, plan
from sweeps.design import Design, Methods, Times, check_fixed, choose_design
from sweeps.executors.specs import ExecutorSpec
from sweeps.notebook import Notebook
from sweeps.plan import PartSpec, PlannedRun, Sweep, SweepSpec
from sweeps.progress import plain
from sweeps.worker import Outcome
from tasks.data.own import readers
from tasks.errors import UserError
from tasks.format import did_you_mean, duration

if TYPE_CHECKING:
    import pandas as pd

    from analysis.answer import Answer
    from analysis.comparison import Comparison
    from sweeps.cost import CostEstimate
    from tasks.data.own.inspect import OwnData

DOG = "dog"
FREE = [DOG, "ldog", "dog_auto", "ldog_auto"]
TUNED = ["adamw", "sgd_momentum"]
OURS = ["data", "model", "hours", "text", "second_text", "label", "kind", "metric", "rivals"]
OURS += ["steps", "seeds", "dry_run", "jobs", "executor"]
OF_RUNS = ["device", "threads", "workers", "eval_batch_size", "data_dir", "runs_dir", "debug"]
# Decided here: the steps by the time, the last scores alone as nothing else is looked at.
DECIDED = ["train.steps", "train.eval_every", "train.checkpoint", "task.data"]
# At most so many examples are scored: more take time and tell little more.
SIZES = ["train.train_examples=null", "train.validation_examples=2000", "train.test_examples=5000"]
# Tokens a word, and bounds of a text's length.
TOKENS, SHORTEST, LONGEST = 1.3, 16, 128


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    options: dict[str, str]
    words: list[str]  # for every run

    def number(self, key: str, kind: Callable[[str], Any]) -> Any:
        """Return a number above 0; None if it was not given."""
        if key not in self.options:
            return None
        try:
            value = kind(self.options[key])
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            what = "a whole number" if kind is int else "a number"
            raise UserError(f"{key}={self.options[key]}: must be {what} above 0")
        return value


def main() -> int:
    """Compare, and print the answer; return 1 if any run has no record."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return 0
    request = _request(sys.argv[1:])
    hours = request.number("hours", float) or 1.0
    steps, seeds = (request.number(key, int) for key in ("steps", "seeds"))
    check_fixed(steps, seeds)
    chosen = driver.executor_of(request.options)
    dry = driver.boolean("dry_run", request.options)
    compared = methods(driver.boolean("rivals", request.options))

    data = _inspect(request)
    readers.say(data)
    words = _words(request, data)
    (first,) = _sweep(data, [DOG], {}, 1, words).cells
    notebook = Notebook.of(first.config)
    fetch_all([first.config])
    slots = executors.slots(chosen)
    times = notebook.times(first.config, chosen)
    batch_size = first.config.spec.train.batch_size
    design = choose_design(hours, times, batch_size, slots, compared, steps, seeds)
    _print_design(design, compared, times, slots, first.config)
    sized = [*words, f"train.steps={design.steps}", f"train.eval_every={design.steps}"]
    sweep = _sweep(data, compared.names, design.grids(compared), design.seeds, sized)
    if dry:
        return 0
    found = _trained(sweep, chosen)

    def more(seeds: int) -> str:
        larger = replace(design, seeds=seeds)
        seconds = (
            times.of_run(design.steps) * (larger.runs(compared) - design.runs(compared)) / slots
        )
        needed = larger.hours(compared, times, slots)
        words = f"steps={design.steps} seeds={seeds} hours={max(hours, needed):g}"
        return f"{duration(seconds)} more: give the same command with {words}"

    name = Path(request.options["data"]).name or request.options["data"]
    look = notebook.look(sweep.cells[0].config.spec.problem_id, design.seeds)
    return _report(found, name, look, more, chosen)


def _request(words: list[str]) -> Request:
    """Split the command line into our options and what holds for every run."""
    words = ["dry_run=true" if word == "--dry-run" else word for word in words]
    options: dict[str, str] = {}
    others = []
    for word in words:
        key, equal, value = word.partition("=")
        if not equal:
            raise UserError(f"{word} cannot be read: say data={word}, or another key=value")
        if key in OURS or key.startswith("executor."):
            options[key] = value
        elif key in OF_RUNS or ("." in key and not key.startswith(tuple(DECIDED))):
            others.append(word)
        elif key in DECIDED[:1]:
            raise UserError(f"{key} is chosen by the time: say steps={value}")
        else:
            raise UserError(f"there is no key {key}: {did_you_mean(key, [*OURS, *OF_RUNS])}")
    if not options.get("data"):
        raise UserError("name your data: python compare.py data=PATH (a folder, or a file)")
    return Request(options, others)


def methods(rivals: bool) -> Methods:
    """Return what is compared."""
    from analysis.roles import TUNING_FREE, in_yaml

    names = configuration.options("opt") if rivals else []
    others = [name for name in names if in_yaml(name, "role") == TUNING_FREE and name not in FREE]
    grids = {name: configuration.load([f"opt={name}"]).spec.opt.grid for name in TUNED}
    return Methods([*FREE, *others], grids)


def _inspect(request: Request) -> "OwnData":
    from tasks.data.own.inspect import inspect

    given = request.options
    columns: dict[str, Any] = {
        key: given.get(key) or None for key in ("text", "second_text", "label", "kind")
    }
    folder = next((w.partition("=")[2] for w in request.words if w.startswith("data_dir=")), None)
    data_dir = Path(folder).expanduser().resolve() if folder else None
    return inspect(given["data"], **columns, data_dir=data_dir)


def _words(request: Request, data: "OwnData") -> list[str]:
    """Return the words of every run of the comparison, but for the task and the steps."""
    words = ["runs_dir=mine/runs", "wandb.mode=disabled", "progress=false", *data.overrides[1:]]
    words += SIZES
    if model := request.options.get("model"):
        words.append(f"model={model}")
    if metric := request.options.get("metric"):
        words.append(f"task.metric={metric}")
    if data.kind == "texts":
        words.append(f"train.max_tokens={_length(data)}")
    return words + request.words


def _length(data: "OwnData") -> int:
    """Return a length that holds nine of ten texts, in steps of 16 tokens."""
    texts = data.part("train").inputs
    lengths = sorted(len(" ".join([t] if isinstance(t, str) else t).split()) for t in texts)
    tokens = TOKENS * lengths[9 * (len(lengths) - 1) // 10]
    return min(LONGEST, max(SHORTEST, 16 * math.ceil(tokens / 16)))


def _sweep(
    data: "OwnData",
    names: list[str],
    grids: dict[str, dict[str, list[Any]]],
    seeds: int,
    words: list[str],
) -> Sweep:
    part = PartSpec(
        tasks=[data.task],
        optimizers=names,
        seeds=list(range(seeds)),
        overrides=words,
        grids=grids,
        vary={},
    )
    return plan.sweep_of(SweepSpec(parts=[part]))


def _print_design(
    design: Design, methods: Methods, times: Times, slots: int, config: Config
) -> None:
    spec = config.spec
    size = f"{spec.train.image_size} pixels" if spec.task.domain == "vision" else ""
    size = size or f"{spec.train.max_tokens} tokens"
    print(f"network: {spec.model.name}, {size}, batch size {spec.train.batch_size}")
    print(f"comparison: {design.describe(methods)}")
    took = duration(design.seconds(methods, times, slots))
    each = duration(times.of_run(design.steps))
    print(
        f"estimated: {took}, at {each} a run and {slots} at once; rates are chosen by validation "
        f"on seed {TUNING_SEED}, which is not reported",
        flush=True,
    )


@dataclass(frozen=True)
class Found:
    """What was trained."""

    sweep: Sweep
    runs_dir: Path
    cost: "CostEstimate"
    frame: "pd.DataFrame"  # the comparison's own runs
    unfinished: list[Outcome]


def _trained(sweep: Sweep, chosen: ExecutorSpec) -> Found:
    """Train what is missing of a sweep."""
    from sweeps import cost

    runs_dir = sweep.cells[0].config.execution.runs
    frame = cost.known(runs_dir)
    choices, processor = cost.chosen(sweep, frame), cost.this_processor(sweep)
    slots = executors.slots(chosen)
    estimate = cost.estimate_cost(sweep, choices, frame, processor, slots)
    planned = sweep.tuning()
    unfinished: list[Outcome] = []
    if estimate.to_do:
        with (
            executors.start(chosen, runs_dir) as executor,
            executors.cancelled_by_signals(executor),
        ):
            unfinished = driver.train(sweep, executor, plan.LARGEST, estimate, planned)
    else:
        planned += sweep.reporting(choices)
    frame = cost.known(runs_dir)
    mine = frame[frame["run_id"].isin({run.run_id for run in planned})]
    return Found(sweep, runs_dir, estimate, mine, unfinished)


def _report(
    found: Found, name: str, look: int, more: Callable[[int], str], chosen: ExecutorSpec
) -> int:
    """Print the answer, the table, the code, and where the trained model is."""
    from analysis.answer import answer, best_tuned
    from analysis.choice import comparable
    from analysis.comparison import compare_problems

    if any(outcome.status == "stopped" for outcome in found.unfinished):
        raise UserError("some runs were stopped: give the same command again")
    comparisons = compare_problems(found.frame) if len(found.frame) else []
    if not comparisons:
        raise UserError(f"no run has a result: {plain(found.unfinished[0].detail)}")
    (comparison,) = comparisons
    said = answer(comparison, best_tuned(comparable(found.frame)), name, look)
    best = _best(found, said)
    where = _export(best, found, chosen) if best else "none: no run has finished"
    print("", *said.sentences, sep="\n")
    if said.more_seeds is not None:
        print(f"{said.more_seeds} seeds: {more(said.more_seeds)}")
    print("", _table(comparison), sep="\n")
    if best:
        code = snippet.code_of(best.run.config.spec, best.weights == "averaged")
        print("", f"{best.run.label}, as code:", "", code, sep="\n")
    print("", f"trained model: {where}", sep="\n")
    for outcome in found.unfinished:
        line = f"{outcome.status}: {outcome.run.label}: {plain(outcome.detail)}"
        print(line, file=sys.stderr)
    return 1 if found.unfinished else 0


def _table(comparison: "Comparison") -> str:
    from analysis.choice import DEFAULT, INSTANCE_TUNED
    from analysis.tables.page import markdown
    from analysis.tables.problems import LEFT, heading, shown_cells

    cells = [cell for cell in comparison.cells if cell.row in (DEFAULT, INSTANCE_TUNED)]
    shown = shown_cells(comparison.problem, cells).drop(columns=["last", "averaged"])
    return f"{heading(comparison.problem)}\n\n{markdown(shown, LEFT)}"


@dataclass(frozen=True)
class Best:
    """The run whose trained model is kept."""

    run: PlannedRun
    weights: str  # averaged or last: the better ones on validation
    text: str  # its test score


def _best(found: Found, said: "Answer") -> Best | None:
    """Return the best run by validation of what is to be used; if that is open, of both sides."""
    from analysis.choice import iterate, validation_score
    from analysis.comparison import reported, scored
    from analysis.statistics import gain

    runs = reported(found.frame)
    runs = scored(runs[runs["status"] == "finished"])
    sides = [(cell.optimizer, cell.setting) for cell in said.sides]
    runs = runs[[pair in sides for pair in zip(runs["optimizer"], runs["setting"], strict=True)]]
    if runs.empty:
        return None
    score = gain(validation_score(runs), runs["higher_is_better"])
    ranked = runs.assign(score=score, weights=iterate(runs))
    row = ranked.sort_values(["score", "seed"], ascending=[False, True]).iloc[0]
    cell = next(cell for cell in found.sweep.cells if cell.name[1] == row["optimizer"])
    run = cell.run(json.loads(row["overrides"]), int(row["seed"]))
    return Best(run, row["weights"], f"test {row['metric']} {row['test']:.4f}")


def _export(best: Best, found: Found, chosen: ExecutorSpec) -> str:
    """Train the best run again, to keep its model; say where it is, or why there is none.

    In a folder of runs of its own: which run is the best is known only when all are done.
    """
    from runner.run import Job

    folder = found.runs_dir.parent / "models" / "runs"
    execution = best.run.config.execution.replaced(export=best.weights, runs_dir=str(folder))
    job = Job.of(replace(best.run.config, execution=execution))
    run = PlannedRun(job.config, best.run.label, job.folder)
    if not run.done:
        with (
            executors.start(chosen, folder) as executor,
            executors.cancelled_by_signals(executor),
        ):
            estimator = found.cost.estimator
            for outcome in driver.run_stage("trained model", [run], executor, 1, estimator):
                if outcome.status == "stopped":
                    raise UserError("stopped: give the same command again")
                return f"none: {plain(outcome.detail)}"
    return f"{job.folder.model(best.weights)} ({best.run.label}, {best.text}; docs/models.md)"
