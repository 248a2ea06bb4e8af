"""python compare.py data=...: one command from a user's data to an answer in words."""

import contextlib
import csv
import errno
import re
import shutil
import sys
import threading
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from conftest import ROOT, stop_at
from torch import nn

from analysis.answer import answer
from runner import config, lock
from runner.optimizer import build_optimizer
from runner.run import build_task
from runner.schedule import factor
from runner.snippet import code_of
from sweeps import compare, conclusion, cost, design, driver, executors, notebook
from sweeps.progress import Progress
from sweeps.request import read_request
from sweeps.text_length import Tokens, length_of_most, tokens_of
from sweeps.worker import work
from tasks.data.own import readers
from tasks.data.own.inspect import inspect
from tasks.data.readers import Examples
from tasks.errors import UserError
from tasks.language import TextTask


class InThisProcess:
    """An executor that starts no process."""

    slots = 1

    def __init__(self):
        self.groups, self.trained = [], []

    def submit(self, group):
        self.groups.append(group)

    def results(self):
        while self.groups:
            self.trained += (outcomes := work(self.groups.pop(0), 1))
            yield from outcomes

    def cancel(self):
        self.groups.clear()


@pytest.fixture
def table(tmp_path):
    """A table of 80 texts whose classes a word tells."""
    generator = np.random.RandomState(0)
    with (tmp_path / "reviews.csv").open("w", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["review", "label"])
        for place in range(80):
            word = "good" if generator.rand() < 0.5 else "bad"
            rows.writerow([f"{place} it is {word}", word if place % 5 else "bad"])
    return tmp_path / "reviews.csv"


@pytest.fixture
def compared(tmp_path, monkeypatch, capsys, networks, table):
    """A function that gives the command; its status, what it says, and the executor."""
    monkeypatch.setattr(design, "LEAST_STEPS", 4)
    monkeypatch.setattr(notebook, "TIMED", 2)
    few = design.Methods(["dog", "dog_auto"], {"adamw": {"lr": [0.001, 0.01, 0.1]}})
    monkeypatch.setattr(compare, "methods", lambda _: few)
    monkeypatch.setattr(executors, "cancelled_by_signals", contextlib.nullcontext)
    monkeypatch.setattr(cost, "COMMITTED", tmp_path)  # whose reading takes a second

    def give(*words):
        executor = InThisProcess()
        start = contextlib.nullcontext(executor)
        monkeypatch.setattr(executors, "start", lambda *_: start)
        paths = [f"runs_dir={tmp_path}/mine/runs", f"data_dir={tmp_path}/data"]
        words = [
            f"data={table}",
            f"model=hf:{networks}/bert",
            *paths,
            "device=cpu",
            "jobs=1",
            "hours=9",
            *words,
        ]
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["compare.py", *words])
        status = compare.main()
        return status, capsys.readouterr().out, executor

    return give


@pytest.fixture
def pages(monkeypatch):
    """The pages that would be written, by path; the package that makes pages is not needed."""
    written = {}

    def write(path, runs, title, answer):
        written[str(path)] = ({run.run_id for run in runs.records}, title, answer)

    monkeypatch.setattr(conclusion, "write_page", write)
    return written


def test_one_command_answers_goes_on_after_a_stop_and_trains_nothing_again(
    compared, tmp_path, table, monkeypatch, pages
):
    words = ["steps=4", "seeds=3"]
    status, planned, executor = compared(*words, "--dry-run")
    assert (status, len(executor.trained)) == (0, 2)  # those that are timed
    assert "comparison: 4 steps, 3 seeds, adamw at 3 rates, 2 methods without a learning" in planned
    assert "if DoG answers more than 38 % of them rightly" in planned  # 6 of 16
    assert not (tmp_path / "mine/runs").exists()

    with monkeypatch.context() as patch, pytest.raises(UserError, match="the same command again"):
        stop_at(patch, 3)
        compared(*words)

    status, said, executor = compared(*words)
    assert status == 0 and said.startswith(planned)
    # 2 + 3 to tune; 4 settings on 3 seeds, or 3 if the default rate is best; the one that is kept
    assert len(executor.trained) in (5 + 12 + 1, 5 + 9 + 1)
    assert re.search(r"On reviews\.csv with hf:bert \(3 seeds, 4 steps\), test accuracy: DoG", said)
    assert "| DoG auto  | default" in said and "| AdamW     | instance-tuned" in said
    ((exported, accuracy),) = re.findall(r"trained model: (\S+) \(.* test accuracy (\S+);", said)
    assert accuracy_of(exported, table, tmp_path) == pytest.approx(float(accuracy), abs=1e-4)

    ((path, (runs, title, answered)),) = pages.items()
    assert said.endswith(f"\nreport: {path}\n") and title == "reviews.csv with hf:bert"
    assert runs >= {outcome.run.run_id for outcome in executor.trained[:-1]}  # but that exported
    assert "\n".join(answered.sentences) in said and answered.code in said
    assert answered.code.startswith("# how own_texts ") and "optimizer.step()" in answered.code

    with monkeypatch.context() as patch:  # nor is the task built for the answer
        patch.setattr(TextTask, "load", Mock(side_effect=AssertionError))
        status, again, executor = compared(*words)
    assert (status, again, executor.trained) == (0, said, [])

    # A model that was taken away is made again.
    shutil.rmtree(exported)
    _, again, executor = compared(*words)
    assert again == said and len(executor.trained) == 1

    # Without seeds=, and while the answer is open, it looks at more seeds of what it compares.
    looks = answer_is_open_below(5, monkeypatch)
    monkeypatch.setattr(design, "SEEDS", 3)
    status, said, executor = compared("steps=4")
    assert looks == [(3, 1), (5, 2)] and "3 seeds cannot tell, and there is time for 5" in said
    assert "more seeds follow while these cannot tell" in said and "more seeds" not in planned
    added = [outcome.run.config.spec for outcome in executor.trained]
    added = {(spec.opt.name, spec.seed) for spec in added if spec.seed in (3, 4)}
    assert added == {("dog", 3), ("dog", 4), ("adamw", 3), ("adamw", 4)}
    status, again, executor = compared("steps=4")
    assert (status, again, executor.trained) == (0, said, [])
    assert looks == 2 * [(3, 1), (5, 2)]

    # Where the number of seeds is the user's, it says what to do.
    _, said, executor = compared(*words)
    assert not executor.trained and looks[4:] == [(3, 1)]
    line = r"^5 seeds: .* more: give the same command without seeds=, and with steps=4 hours=9$"
    assert re.search(line, said, re.MULTILINE)

    # What makes pages may not be installed.
    monkeypatch.setattr(conclusion, "write_page", refused := Mock(side_effect=UserError("no page")))
    status, said, _ = compared(*words)
    assert refused.called and status == 0 and said.endswith("\nreport: none: no page\n")


def test_data_are_read_once_before_anything_is_trained(compared, monkeypatch):
    monkeypatch.setattr(notebook, "time_runs", lambda *_: design.Times(0, 0.001, 0, 48))
    monkeypatch.setattr(readers, "inspect", Mock(side_effect=AssertionError))
    assert compared("--dry-run")[0] == 0


def test_other_data_have_notes_and_a_page_of_their_own(
    compared, monkeypatch, pages, table, tmp_path
):
    smallest = design.Design(4, 3, whole_grids=False, every_method=False)
    monkeypatch.setattr(compare, "choose_design", lambda *_: smallest)
    compared("seeds=3")
    with table.open("a") as file:
        file.write("a row more,good\n")
    compared("seeds=3")
    notes = sorted((tmp_path / "mine/comparisons").glob("*.json"))
    assert len(notes) == 2 and len(pages) == 2
    looks = [list(notebook.Notebook(path).read()["looks"].values()) for path in notes]
    assert looks == [[[[3, False]]], [[[3, False]]]]


def test_the_time_left_is_known_from_the_first_run_on(compared, monkeypatch, pages):
    left = []

    class Said(Progress):
        def __enter__(self):
            left.append(str(self._time_left()))
            return super().__enter__()

    monkeypatch.setattr(driver, "Progress", Said)
    smallest = design.Design(4, 3, whole_grids=False, every_method=False)
    monkeypatch.setattr(compare, "choose_design", lambda *_: smallest)
    compared("seeds=3")
    stages = ["tuning", "reporting, of nothing", "more seeds", "the run that is kept"]
    assert len(left) == len(stages) and "unknown" not in left


def test_short_of_time_it_trains_only_what_the_answer_needs(compared, monkeypatch, pages):
    smallest = design.Design(4, 3, whole_grids=False, every_method=False)
    monkeypatch.setattr(compare, "choose_design", lambda *_: smallest)
    status, said, executor = compared()
    trained = [outcome.run.config.spec for outcome in executor.trained]
    trained = [spec for spec in trained if spec.train.steps == 4]  # not those that are timed
    seeds = Counter((spec.opt.name, spec.seed) for spec in trained[:-1])  # the last is kept
    assert [seeds["dog", seed] for seed in (100, 0, 1, 2)] == [1, 1, 1, 1]
    assert seeds["adamw", 100] == 2 and seeds.total() == 4 + 2 + 3
    assert len({spec.opt.lr for spec in trained if spec.opt.name == "adamw" and spec.seed < 3}) == 1
    assert status == 0 and "(3 seeds, 4 steps), test accuracy: DoG" in said
    assert re.search(r"^left out, as time is short: dog_auto: hours=[\d.]+ has", said, re.MULTILINE)
    assert "| AdamW     | instance-tuned" in said and "| DoG auto" not in said


def test_folder_that_may_not_be_written_to_is_said(compared, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot use the folder .*file/mine: .*with runs_dir="):
        compared("steps=4", f"runs_dir={tmp_path}/file/mine/runs")


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "matthews"])
def test_best_constant_is_of_the_test_examples_that_runs_are_scored_on(
    metric, networks, table, tmp_path
):
    data = inspect(table, data_dir=tmp_path / "data")
    words = [*data.overrides, f"model=hf:{networks}/bert", f"data_dir={tmp_path}/data"]
    loaded = config.load([*words, f"task.metric={metric}", "train.test_examples=7"])
    task = build_task(loaded)
    scores = [task.score("test", np.full(7, answer)) for answer in (0, 1)]
    data.data.train.labels[:] = np.argmin(scores)  # of which none is asked
    labels = compare.scored_labels(data, loaded)
    assert compare.best_constant(labels, 2, metric) == max(scores)


def test_best_constant_of_numbers_has_no_correlation():
    assert compare.best_constant(np.array([-1.0, 0.0, 1.0]), 0, "pearson") == 0


@pytest.mark.parametrize(
    ("metric", "cost"),
    [
        ("accuracy", 1 / 12),
        # A half and a tenth of a class, each of two classes.
        ("balanced_accuracy", np.hypot(1 / 4, 1 / 20)),
    ],
)
def test_wrong_answer_costs_most_in_a_rare_class(metric, cost):
    labels = np.array([1] * 2 + [0] * 10)
    assert compare.cost_of_an_error(labels, 2, metric) == pytest.approx(cost)
    assert compare.cost_of_an_error(labels / 2, 0, "pearson") == 0


def answer_is_open_below(seeds, monkeypatch):
    """Let no answer be known with fewer seeds; return a list of the looks: (seeds, which look)."""
    looks = []

    def opened(comparison, rival, name, look, *of_score):
        looks.append((comparison.reference.seeds, look))
        found = answer(comparison, rival, name, look, *of_score)
        more = seeds if comparison.reference.seeds < seeds else None
        return replace(found, verdict="inconclusive", more_seeds=more)

    monkeypatch.setattr(conclusion, "answer", opened)
    return looks


class Letters:
    """A tokenizer that makes a token of each letter, as one for English does of Russian."""

    unk_token_id = ord("?")

    def __init__(self, *_):
        pass

    def __call__(self, *columns, **_):
        texts = map("".join, zip(*columns, strict=True))
        return {"input_ids": [[*map(ord, text)] for text in texts]}


@pytest.mark.parametrize("pairs", [False, True])
def test_length_of_texts_is_what_the_network_s_own_tokenizer_says(pairs, tmp_path):
    texts = ["фильм" * (1 + n % 20) for n in range(100)]
    examples = Examples([(text, "a") for text in texts] if pairs else texts, np.zeros(100))
    model = SimpleNamespace(tokenizer=f"{__name__}.Letters")
    counts, unknown = tokens_of(examples, model, tmp_path)
    assert counts.tolist() == sorted(len(text) + pairs for text in texts) and not unknown
    assert length_of_most(counts) == 96  # nine of ten have at most 90, or 91


def test_texts_that_are_cut_are_warned_of(capsys):
    data = SimpleNamespace(part=lambda _: range(1000))
    loaded = config.load(["task=own_texts", "train.max_tokens=128"])
    compare._print_warnings(data, loaded, Tokens(np.array([100] * 3 + [500]), 0.0))
    assert "25 % of the texts are longer than 128 tokens, and are cut" in capsys.readouterr().out
    compare._print_warnings(data, loaded, Tokens(np.array([100] * 9 + [500]), 0.1))
    assert not capsys.readouterr().out


def test_texts_that_the_network_cannot_read_are_warned_of(capsys, tmp_path):
    model = SimpleNamespace(tokenizer=f"{__name__}.Letters")
    tokens = tokens_of(Examples(["a???", "abcd"] * 9, np.zeros(18)), model, tmp_path)
    data = SimpleNamespace(part=lambda _: range(1000))
    compare._print_warnings(data, config.load(["task=own_texts"]), tokens)
    assert "warning: minilm does not know 38 % of the texts: choose" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more_seeds", "fixed", "hours", "goes_on"),
    [
        (12, None, 2.0, 8),  # 79 min so far, and 2 · 3 + 1 runs of 10 min by two: 95 % of 2 h
        (12, None, 1.9, None),
        (None, None, 9.0, None),
        (12, 5, 9.0, None),
    ],
)
def test_seeds_are_added_while_the_answer_is_open_and_there_is_time(
    more_seeds, fixed, hours, goes_on
):
    request = replace(read_request(["data=a.csv", f"hours={hours}"]), seeds=fixed)
    found = SimpleNamespace(answer=SimpleNamespace(more_seeds=more_seeds), settings=["dog", "sgd"])
    spent = design.Spent(seconds=2 * 79 * 60 - 1, each=600.0, slots=2)
    trained = SimpleNamespace(seeds=5)
    assert compare._more_seeds(request, found, trained, spent) == goes_on


@pytest.mark.parametrize(
    ("larger_from", "said"),
    [
        # 4 runs of 2 minutes, 2 at once; with the 18 of before and the one that is kept 23 minutes.
        (0.6, "5 seeds: 4 minutes more: give the same command with steps=400 hours=0.5"),
        # Half an hour buys a design of 10 runs more, which take 10 minutes.
        (0.5, "5 seeds: 14 minutes more: give the same command with steps=400 hours=0.6"),
    ],
)
def test_advice_is_the_least_time_that_the_next_command_needs(larger_from, said, monkeypatch):
    monkeypatch.setattr(compare, "duration", lambda seconds: f"{seconds / 60:.0f} minutes")
    request = read_request(["data=a.csv", "hours=0.4"])
    found = SimpleNamespace(answer=SimpleNamespace(more_seeds=5), settings=["dog", "sgd"])
    spent = design.Spent(seconds=18 * 120.0, each=120.0, slots=2)
    small, large = (SimpleNamespace(runs=lambda _, n=n: n, steps=400) for n in (18, 28))
    advice = compare._advice(
        *(request, found, SimpleNamespace(seeds=3), spent, small, None),
        lambda hours: large if hours >= larger_from else small,
    )
    assert advice == said


def test_rivals_are_all_that_have_no_learning_rate():
    alone, all_of_them = compare.methods(rivals=False), compare.methods(rivals=True)
    assert alone.names == ["dog", "ldog", "dog_auto", "ldog_auto", "adamw", "sgd_momentum"]
    assert {"prodigy", "dowg", "sps"} < set(all_of_them.free) and "adam" not in all_of_them.names
    assert all_of_them.free[:4] == alone.free and all_of_them.grids == alone.grids


def accuracy_of(exported, table, tmp_path):
    """The accuracy on the test examples of a model that transformers alone has loaded."""
    data = inspect(table, data_dir=tmp_path / "data")
    page = (ROOT / "docs/models.md").read_text()
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "AutoModel" in c)
    names = {"texts": list(data.data.test.inputs)}
    exec(code.replace("FOLDER", exported), names)
    right = [data.classes.index(name) for name in names["answers"]] == data.data.test.labels
    return right.mean()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data="], "name your data: python compare.py data=PATH"),
        (["photos"], "photos cannot be read: say data=photos"),
        (["hour=2"], "there is no key hour: did you mean hours"),
        (["opt=adam"], "there is no key opt"),
        (["opt.weight_decay=0.1"], "opt.weight_decay is not to be set: optimizers are compared"),
        (["protocol.language.warmup=0"], "protocol.language.warmup is not to be set"),
        (["train.steps=9"], "say steps=9"),
        (["hours=0"], "hours=0: must be a number above 0"),
        (["hours=long"], "hours=long: must be a number above 0"),
        (["seeds=2"], "seeds=2: must be a number from 3 to 50"),
        (["steps=3"], "steps=3: DoG needs at least 4 to be compared"),
        (["rivals=maybe"], "rivals=maybe: must be true or false"),
        (["data=nowhere.csv"], "there is no file or folder nowhere.csv"),
        (["label=stars"], "stars"),
        (["model=squeezenet"], "model=squeezenet is for vision tasks"),
        (["metric=speed"], "no task.metric=speed"),
        (["hours=1e-6"], "hours=1e-06 is too short: 4 steps, 3 seeds, adamw at 2 rates"),
    ],
    ids=str,
)
def test_bad_input_is_one_line_and_trains_nothing(compared, tmp_path, words, said):
    with pytest.raises(UserError) as refusal:
        compared(*words)
    assert said in str(refusal.value) and "\n" not in str(refusal.value)
    assert not (tmp_path / "mine/runs").exists()


@pytest.mark.parametrize("content", ['{"times": {}, "loo', "[]", '{"times": {}}'])
def test_damaged_notes_are_refused_as_looks_would_count_anew(tmp_path, content):
    notes = notebook.Notebook(tmp_path / "notes.json")
    assert notes.look("problem", 3, whole_grids=True) == 1
    assert notes.look("problem", 5, whole_grids=True) == 2
    notes.path.write_text(content)
    with pytest.raises(UserError, match="is damaged"):
        notes.look("problem", 5, whole_grids=True)
    assert notes.path.read_text() == content


def test_looks_of_two_commands_at_once_are_both_noted(tmp_path, monkeypatch):
    notes, write = notebook.Notebook(tmp_path / "notes.json"), notebook.write_json
    other = threading.Thread(target=notes.look, args=("problem", 5, True))

    def write_late(*content):
        if not other.ident:
            other.start()
            other.join(1)
        write(*content)

    monkeypatch.setattr(notebook, "write_json", write_late)
    notes.look("problem", 3, whole_grids=True)
    other.join()
    assert notes.read()["looks"] == {"problem": [[3, True], [5, True]]}


def test_full_disk_is_said_of_notes_with_their_folder(tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(notebook, "write_json", Mock(side_effect=full))
    with pytest.raises(UserError, match=f"the disk that holds {tmp_path} is full.* with runs_dir="):
        notebook.Notebook(tmp_path / "notes.json").look("problem", 3, whole_grids=True)


def test_times_are_measured_once_and_again_where_the_hours_are_too_short(tmp_path, monkeypatch):
    measured = [design.Times(0, step, 0, 640) for step in (0.25, 0.125, 0.15)]
    monkeypatch.setattr(notebook, "time_runs", lambda *_: measured.pop(0))
    cell = config.load(["task=movies", f"runs_dir={tmp_path}/runs", "device=cpu"])
    methods = design.Methods(["dog"], {"adamw": {"lr": [1, 2]}})  # 9 runs of 400 steps, and more

    def step(hours):
        request = read_request(["data=a.csv", f"hours={hours}", "jobs=1"])
        _, times = compare._design(request, cell, methods, 1, scored=32)
        return times.step

    with pytest.raises(UserError, match=r"give hours=0\.4"):
        step(0.3)
    assert len(measured) == 2 and step(0.4) == 0.25  # as noted: the same comparison follows
    assert step(0.3) == 0.125  # whatever took its time is over
    with pytest.raises(UserError, match=r"give hours=0\.2"):
        step(0.1)
    assert not measured and step(0.2) == 0.125  # the faster of both


def test_timing_removes_what_a_killed_one_has_left_when_no_other_can_be_timing(
    compared, tmp_path, monkeypatch
):
    mine, held = tmp_path / "mine", []
    (mine / ".staging-timing-killed" / "runs").mkdir(parents=True)

    def submit(executor, group):
        held.append(lock.held(mine / ".timing.lock"))
        executor.groups.append(group)

    monkeypatch.setattr(InThisProcess, "submit", submit)
    compared("--dry-run", "steps=4")
    assert held == [True, True] and not list(mine.glob(".staging*"))


def test_timing_scores_a_part_of_many_examples_and_counts_all(compared, monkeypatch):
    scored = []
    monkeypatch.setattr(notebook, "SCORED", 5)
    time_runs = notebook.time_runs
    monkeypatch.setattr(notebook, "time_runs", lambda *a: scored.append(a[-1]) or time_runs(*a))
    _, _, executor = compared("--dry-run", "steps=4", "train.test_examples=12")
    (record,) = {outcome.run.config.spec.train for outcome in executor.trained}
    assert (record.validation_examples, record.test_examples) == (5, 5)
    assert scored == [13 + 12]  # there are 13 to validate, and 16 to test on


def test_each_number_of_seeds_is_one_look_however_often_it_is_looked_at(tmp_path):
    notes = notebook.Notebook(tmp_path / "new" / "notes.json")
    assert [notes.look("a", seeds, False) for seeds in (3, 3, 5, 3)] == [1, 1, 2, 1]
    assert notes.look("a", 5, True) == 3  # another rate may be compared
    assert notebook.Notebook(notes.path).look("b", 5, False) == 1


@pytest.mark.parametrize("opt", ["dog", "ldog_auto", "adamw", "sgd_momentum"])
@pytest.mark.parametrize("task", ["cifar", "movies"])
def test_code_to_paste_trains_as_the_run_did(opt, task):
    spec = config.load([f"task={task}", f"opt={opt}", "train.steps=20"]).spec
    model, rates = nn.Linear(2, 1), []

    def batches():
        for _ in range(20):
            yield torch.ones(4, 2), torch.ones(4, 1)
            rates.append(names["optimizer"].param_groups[0]["lr"])

    names = {"model": model, "loss_function": nn.functional.mse_loss, "batches": batches()}
    seen = []
    names["evaluate"] = seen.append
    code = code_of(spec, averaged=True)
    assert "- 0" not in code
    exec(code, names)
    assert isinstance(seen[0], nn.Linear) and seen[0] is not model
    made = build_optimizer(spec.opt, model).param_groups[0]
    pasted = names["optimizer"].param_groups[0]
    others = made.keys() - {"params", "lr", "initial_lr"}
    assert {key: made[key] for key in others} == {key: pasted[key] for key in others}
    factors = [factor(step, 20, spec.opt.schedule, spec.opt.warmup) for step in range(1, 21)]
    assert rates == pytest.approx([spec.opt.lr * by for by in factors])
