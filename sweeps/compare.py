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
train.image_size=128, hold for every run (docs/keys.md); opt. and protocol. are refused.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from analysis.answer import next_seeds
from analysis.roles import TUNING_FREE, in_yaml
from analysis.statistics import LEAST_ERRORS, RATES
from runner import TUNING_SEED
from runner import config as configuration
from runner.config import Config
from runner.downloads import fetch_all
from sweeps import executors, plan
from sweeps.conclusion import Conclusion, conclude, report, sides_by_validation
from sweeps.design import DOG, Design, Methods, Spent, Times, choose_design
from sweeps.notebook import Notebook
from sweeps.plan import PartSpec, Sweep, SweepSpec
from sweeps.request import Request, read_request
from sweeps.text_length import Tokens, length_of_most, tokens_of
from sweeps.trained import Trained, train, train_more_seeds
from tasks.data.own import readers
from tasks.data.own.inspect import OwnData, inspect
from tasks.errors import UserError
from tasks.format import duration, plural
from tasks.metrics import OF_CLASSES, OF_NUMBERS

FREE = [DOG, "ldog", "dog_auto", "ldog_auto"]
TUNED = ["adamw", "sgd_momentum"]
# At most so many examples are scored: more would take longer than to train.
SIZES = ["train.train_examples=null", "train.validation_examples=1000", "train.test_examples=2000"]
# Who answers more than so many rightly may make too few errors to be compared.
SURE = 0.95
# A larger part of texts that are cut, or of tokens that the network does not know, is warned of.
CUT = UNKNOWN = 0.1


def main() -> int:
    """Compare, and print the answer; return 1 if any run has no record."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return 0
    request = read_request(sys.argv[1:])
    compared, slots = methods(request.rivals), executors.slots(request.executor)

    data = inspect(request.data, **request.columns, data_dir=request.data_dir)
    readers.say(data)
    words = _words(request, data)
    config = _sweep(data, [DOG], {}, 1, words).cells[0].config
    fetch_all([config], ["weights"])  # the data have been read
    tokens = None
    if data.kind == "texts":
        tokens = tokens_of(data.part("train"), config.spec.model, config.execution.data)
        length = f"train.max_tokens={length_of_most(tokens.counts)}"
        words = [length, *words]  # what the user says comes later, and counts
        config = _sweep(data, [DOG], {}, 1, words).cells[0].config
    design, times = _design(request, config, compared, slots, _scored(data, config))
    _print_design(design, compared, times, slots, config)
    if request.seeds is None:
        print("more seeds follow while these cannot tell, and while there is time")
    _print_warnings(data, config, tokens)
    words += [f"train.steps={design.steps}", f"train.eval_every={design.steps}"]
    names, grids = design.names(compared), design.grids(compared)
    sweep = _sweep(data, names, grids, design.seeds if design.every_method else 0, words)
    if request.dry_run:
        return 0

    notebook = Notebook.of(config)
    trained = train(sweep, request.executor, times.of_run(design.steps))
    if not design.every_method:  # so far tuned alone
        sides = sides_by_validation(trained)
        trained = train_more_seeds(trained, sides, design.seeds, request.executor)
    score = scored_labels(data, config), len(data.classes), config.spec.task.metric
    constant, one_error = best_constant(*score), cost_of_an_error(*score)
    while True:
        look = notebook.look(trained.problem_id, trained.seeds, design.whole_grids)
        conclusion = conclude(trained, request.name, look, constant, one_error)
        spent = trained.spent(times.start, slots)
        seeds = _more_seeds(request, conclusion, trained, spent)
        if seeds is None:
            break
        print(f"{trained.seeds} seeds cannot tell, and there is time for {seeds}", flush=True)
        trained = train_more_seeds(trained, conclusion.settings, seeds, request.executor)
    choose = partial(
        choose_design,
        times=times,
        batch_size=config.spec.train.batch_size,
        slots=slots,
        methods=compared,
        steps=design.steps,
    )
    advice = _advice(request, conclusion, trained, spent, design, compared, choose)
    return report(conclusion, trained, advice, request.executor)


def methods(rivals: bool) -> Methods:
    """Return what is compared."""
    names = configuration.options("opt") if rivals else []
    others = [name for name in names if in_yaml(name, "role") == TUNING_FREE and name not in FREE]
    grids = {name: configuration.load([f"opt={name}"]).spec.opt.grid for name in TUNED}
    return Methods([*FREE, *others], grids)


def _words(request: Request, data: OwnData) -> list[str]:
    """Return the words of every run of the comparison, but for the task and the steps."""
    words = ["runs_dir=mine/runs", "wandb.mode=disabled", "progress=false", *data.overrides[1:]]
    words += SIZES
    if request.model:
        words.append(f"model={request.model}")
    if request.metric:
        words.append(f"task.metric={request.metric}")
    return words + request.words


def _design(
    request: Request, config: Config, methods: Methods, slots: int, scored: int
) -> tuple[Design, Times]:
    """Return what fits the hours, and what runs cost here that score so many examples.

    That is measured once, so that the same command means the same comparison; and again where the
    hours are too short, as other work may have slowed it then.
    """
    notebook, batch_size = Notebook.of(config), config.spec.train.batch_size
    noted = notebook.times(config, request.executor)
    times = noted or notebook.measure_times(config, request.executor, scored)
    sizes = batch_size, slots, methods, request.steps, request.seeds
    try:
        return choose_design(request.hours, times, *sizes), times
    except UserError:
        if noted is None:
            raise
    times = notebook.measure_times(config, request.executor, scored)
    return choose_design(request.hours, times, *sizes), times


def _scored(data: OwnData, config: Config) -> int:
    """Return how many examples a run validates and tests on."""
    train = config.spec.train
    limits = {"validation": train.validation_examples, "test": train.test_examples}
    return sum(min(len(data.part(name)), limit or sys.maxsize) for name, limit in limits.items())


def scored_labels(data: OwnData, config: Config) -> np.ndarray:
    """Return the labels of the test examples that runs are scored on, [N].

    They are of the data as they were read: to build the task is to read and tokenise these once
    more.
    """
    from tasks.task import split  # imports torch, which takes seconds

    return split(data.data, config.spec.train, data.task)["test"].labels


def best_constant(labels: np.ndarray, classes: int, metric: str) -> float:
    """Return the score of always answering the same, whichever scores best.

    `classes` is 0 where the labels are numbers.
    """
    score = {**OF_CLASSES, **OF_NUMBERS}[metric]
    answers = range(classes or 1)  # of numbers any scores as any other
    return max(score(np.full(len(labels), answer), labels) for answer in answers)


def cost_of_an_error(labels: np.ndarray, classes: int, metric: str) -> float:
    """Return how much of the score a wrong answer takes; 0 of numbers, of which none is wrong.

    If that depends on the class, the root of the sum of its squares: as much as their rounding, of
    each class by itself, weighs together.
    """
    if not classes:
        return 0.0
    if metric in RATES:
        return 1 / len(labels)
    taken = []
    for place in np.unique(labels, return_index=True)[1]:
        answers = labels.copy()
        answers[place] = (labels[place] + 1) % classes
        taken.append(1 - OF_CLASSES[metric](answers, labels))
    return float(np.sqrt(np.sum(np.square(taken))))


def _sweep(
    data: OwnData,
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
    if not design.every_method:
        others = ", ".join(name for name in methods.free if name != DOG)
        hours = replace(design, every_method=True).hours(methods, times, slots)
        print(f"left out, as time is short: {others}: hours={hours:g} has them, too", flush=True)


def _print_warnings(data: OwnData, config: Config, tokens: Tokens | None) -> None:
    """Say before anything is trained what may make its answer say little.

    `tokens` is what the network makes of some texts.
    """
    examples, metric = len(data.part("test")), config.spec.task.metric
    longest = config.spec.train.max_tokens
    if tokens and tokens.unknown > UNKNOWN:
        print(
            f"warning: {config.spec.model.name} does not know {100 * tokens.unknown:.0f} % of the "
            "texts: choose a network of their language, model=hf:NAME",
            flush=True,
        )
    if tokens and longest and (cut := (tokens.counts > longest).mean()) > CUT:
        print(
            f"warning: {100 * cut:.0f} % of the texts are longer than {longest} tokens, and are "
            "cut: a larger train.max_tokens= reads more of them, and takes longer",
            flush=True,
        )
    bound = 1 - LEAST_ERRORS / examples
    if metric in RATES and bound < SURE:
        print(
            f"warning: {plural(examples, 'test example')}: if DoG answers more than "
            f"{max(0, 100 * bound):.0f} % of them rightly, its errors are too few to compare",
            flush=True,
        )


def _more_seeds(
    request: Request, conclusion: Conclusion, trained: Trained, spent: Spent
) -> int | None:
    """Return the number of seeds to go on with; None if the answer stays as it is.

    It stays where it is known, where no number of seeds would tell, where the user has fixed the
    number, and where there is no time.
    """
    if conclusion.answer.more_seeds is None or request.seeds is not None:
        return None
    seeds = next_seeds(trained.seeds)
    if seeds is None or spent.hours(_runs(conclusion, trained, seeds)) > request.hours:
        return None
    return seeds


def _runs(conclusion: Conclusion, trained: Trained, seeds: int) -> int:
    """Return how many runs are to do for so many seeds."""
    return len(conclusion.settings) * (seeds - trained.seeds)


def _advice(
    request: Request,
    conclusion: Conclusion,
    trained: Trained,
    spent: Spent,
    design: Design,
    methods: Methods,
    choose: Callable[[float], Design],
) -> str:
    """Return what to do where more seeds would tell; nothing where they would not.

    `choose` returns the design of so many hours, with the same steps: more hours may buy a larger
    one, which takes more hours.
    """
    if (seeds := conclusion.answer.more_seeds) is None:
        return ""
    chosen = design
    while True:
        more = _runs(conclusion, trained, seeds) + chosen.runs(methods) - design.runs(methods)
        hours = max(math.ceil(10 * spent.hours(more)) / 10, request.hours)
        larger = choose(hours)
        if larger.runs(methods) <= chosen.runs(methods):
            break
        chosen = larger
    fixed = "without seeds=, and " if request.seeds is not None else ""
    return (
        f"{seeds} seeds: {duration(spent.seconds_of(more))} more: give the same command {fixed}"
        f"with steps={design.steps} hours={hours:g}"
    )
