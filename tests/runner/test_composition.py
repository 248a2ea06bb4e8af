"""Configurations put together from parts that were composed before are those that Hydra makes."""

from itertools import product

import pytest
from hydra import compose as hydra_compose
from omegaconf import OmegaConf

from runner import config
from runner.specs import Composed
from sweeps import plan

TYPED = [
    ["task=cifar", "task.synthetic=true", "train.steps=5"],
    ["task=movies", "opt=adam", "opt.lr=0.5", "train.batch_size=4"],
    ["task=movies", "opt=sgd"],
    ["model=squeezenet", "opt=tdog", "protocol.vision.steps=7"],
    ["task=cifar_scratch", "opt=sgd_momentum", "protocol=paper", "+opt.foreach=false"],
]


@pytest.fixture(autouse=True)
def _nothing_composed(monkeypatch):
    monkeypatch.setattr(config, "_parts", {})
    monkeypatch.setattr(config, "_latest", None)


@pytest.fixture
def composed(monkeypatch):
    """The overrides of each call of Hydra's compose()."""
    calls = []

    def compose(name, overrides):
        calls.append(overrides)
        return hydra_compose(name, overrides)

    monkeypatch.setattr(config, "compose", compose)
    return calls


def slowly(words):
    """The run as Hydra alone makes it."""
    with config._hydra():
        whole = hydra_compose("config", words)
    composed = Composed.parse(OmegaConf.to_container(whole, resolve=True))
    return composed.run, composed.execution


def quickly(words):
    run = config.load(words)
    return run.spec, run.execution


def words_of(sweep):
    """The overrides of a sweep's cells."""
    for part in OmegaConf.to_container(OmegaConf.load(plan.SWEEPS / f"{sweep}.yaml"))["parts"]:
        for task, opt in product(part["tasks"], part["optimizers"]):
            yield [f"task={task}", f"opt={opt}", *part.get("overrides", [])]


def test_cells_of_sweeps_are_as_hydra_makes_them():
    # Each is a task, an optimizer or a protocol that another has had before, or none has had.
    cells = [*list(words_of("lite"))[::3], *list(words_of("theory"))[::3]]
    cells += list(words_of("paper_language"))[::29]
    # All are put together, in this order; some are compared.
    quick = [quickly(words) for words in cells]
    for place in range(1, len(cells), 4):
        assert quick[place] == slowly(cells[place]), cells[place]


@pytest.mark.parametrize("words", TYPED, ids=" ".join)
def test_what_is_typed_is_as_hydra_makes_it(words):
    for _ in range(2):  # composed, and put together
        assert quickly(words) == slowly(words)


def test_sweep_composes_each_task_and_each_optimizer_once(composed):
    sweep = plan.load("lite")
    tasks, optimizers = zip(*[words[:2] for words in words_of("lite")], strict=True)
    assert len(sweep.cells) == 32
    assert len(composed) < len(set(tasks)) + len(set(optimizers))


def test_another_process_goes_on_with_what_was_composed(composed, monkeypatch):
    words = ["task=logistic_wine", "opt=sgd"]
    here = config.load(words)
    parts = config.what_was_composed()
    monkeypatch.setattr(config, "_parts", {})
    monkeypatch.setattr(config, "_latest", None)
    config.take_over(parts)
    composed.clear()
    assert config.load(words) == here and composed == []


def test_yaml_that_writes_to_the_part_of_another_holds_for_its_own_runs_alone(monkeypatch):
    def compose(name, overrides):
        """As if the yaml of movies set a key of the optimizer's, whichever it is."""
        whole = hydra_compose(name, overrides)
        if "task=movies" in overrides:
            whole.opt.weight_decay = 0.25
        return whole

    monkeypatch.setattr(config, "compose", compose)
    for task, opt in product(["cifar", "movies", "newsgroups"], ["sgd", "adam", "dog"]):
        expected = 0.25 if task == "movies" else 0.0
        found = config.load([f"task={task}", f"opt={opt}"]).spec.opt.weight_decay
        assert found == expected, (task, opt)
