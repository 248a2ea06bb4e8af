"""Our records stand beside the paper's numbers where, and only where, the same cell exists."""

from functools import partial

import made_up_records as made_up
import numpy as np
import pytest
import yaml

from analysis.paper import names, published
from analysis.tables.page import files_of, write_pages
from runner import CONFIGS
from runner.yamls import read_yaml

PAPER = {"protocol": ("paper", 1), "task": "rte", "model": "roberta_base", "steps": 10_000}
PROTOCOL = CONFIGS / "protocol" / "paper.yaml"
CIFAR = {"protocol": ("paper", 1), "task": "cifar100", "model": "vit_b32", "steps": 20_000}


@pytest.fixture
def frame_of(tmp_path):
    return partial(made_up.collected, tmp_path)


def dog_as_in_the_paper(score, **choices):
    """A run of DoG on a language task with the paper's initial step length."""
    made = made_up.record(score, opt="dog", **choices)
    made["settings"]["opt"]["reps_rel"] = 1e-6
    return made


def cells_of(frame):
    return published.compare_with_paper(frame).to_dict("records")


def test_the_same_cell_of_table_4_by_hand(frame_of):
    made = [dog_as_in_the_paper(score, seed=seed, **PAPER)
            for seed, score in enumerate((0.76, 0.78, 0.80))]  # fmt: skip
    (cell,) = cells_of(frame_of(*made))
    assert (cell["table"], cell["model"], cell["task"]) == (4, "RoBERTa-b", "RTE")
    assert (cell["optimizer"], cell["rate"], cell["iterate"]) == ("DoG", 0, "chosen")
    assert cell["mean"] == pytest.approx(78)
    assert cell["half_width"] == pytest.approx(4.303 * 2 / np.sqrt(3), abs=0.01)
    assert cell["seeds"] == "0, 1, 2"
    assert (cell["paper_mean"], cell["paper_std"]) == (78.5, 2.91)
    assert cell["difference"] == pytest.approx(-0.5)
    assert (cell["protocol"], cell["departures"]) == ("paper v1", "")


def test_rates_match_as_written_and_a_rate_of_the_tuning_alone_shows_its_seed(frame_of):
    tried = made_up.record(0.5, changed={"lr": 0.1 * 0.1 * 10}, seed=100, **PAPER)
    elsewhere = made_up.record(0.5, changed={"lr": 0.123}, seed=100, **PAPER)
    (cell,) = cells_of(frame_of(tried, elsewhere))
    assert (cell["optimizer"], cell["rate"], cell["seeds"]) == ("SGD", 0.1, "100")
    assert np.isnan(cell["half_width"])


def test_reported_seeds_take_the_place_of_the_tuning_seed(frame_of):
    made = [made_up.record(score, changed={"lr": 0.1}, seed=seed, **PAPER)
            for seed, score in ((100, 0.1), (0, 0.6))]  # fmt: skip
    (cell,) = cells_of(frame_of(*made))
    assert (cell["seeds"], cell["mean"]) == ("0", pytest.approx(60))


def test_red_is_of_each_sides_own_dog(frame_of):
    made = [made_up.record(0.8, opt="dog", seed=0, **PAPER),
            made_up.record(0.7, changed={"lr": 0.01 * 3}, seed=100, **PAPER),
            made_up.record(0.9, opt="dog", **PAPER | {"protocol": ("lite", 1)})]  # fmt: skip
    cells = {cell["optimizer"]: cell for cell in cells_of(frame_of(*made))}
    assert cells["SGD"]["red"] == pytest.approx(100 * (0.2 - 0.3) / 0.2)
    assert cells["SGD"]["paper_red"] == pytest.approx(100 * (21.5 - 21.1) / 21.5)
    assert cells["DoG"]["red"] == 0


def test_below_ten_errors_of_our_dog_there_is_no_red_and_the_tuning_seed_is_explained(frame_of):
    dog = made_up.record(1 - 9 / 2000, opt="dog", **PAPER)
    frame = frame_of(dog, made_up.record(0.9, changed={"lr": 0.1}, seed=100, **PAPER))
    assert np.isnan([cell["red"] for cell in cells_of(frame)]).all()
    notes = files_of(published.pages_of_published(frame))["published.md"]
    assert "alone is compared with DoG's mean over its reported seeds" in notes


def test_departures_from_the_papers_budget_are_named(frame_of):
    small = made_up.record(0.5, opt="dog", **CIFAR | {"steps": 468}, batch_size=32)
    (cell,) = cells_of(frame_of(small))
    assert cell["departures"] == (
        "steps 468, paper 20,000; batch size 32, paper 128; training examples 5,000, paper 45,000; "
        "validation examples 1,000, paper 5,000; test examples 2,000, paper 10,000"
    )


def test_batch_norm_augmentation_initial_step_length_and_protocol_are_departures(frame_of):
    where = CIFAR | {"model": "resnet50", "augment": "natural", "batch_size": 128}
    where |= {"train_examples": 45_000, "protocol": ("lite", 1)}
    made = [made_up.record(0.5, opt="ldog", batch_norm=mode, **where | other)
            for mode, other in (("train", {}), ("frozen", {}), ("train", {"augment": "flip"}),
                                ("train", {"max_tokens": 8, "precision": "bf16"}))]  # fmt: skip
    made[0]["settings"]["opt"]["reps_rel"] = 1e-6
    sizes = "validation examples 1,000, paper 5,000; test examples 2,000, paper 10,000"
    assert {cell["departures"].replace(f"; {sizes}", "") for cell in cells_of(frame_of(*made))} == {
        "protocol lite; initial step length 1e-06, paper 0.0001",
        "protocol lite; batch norm frozen, paper train",
        "protocol lite; augmentation flip, paper natural",
        "protocol lite; train.max_tokens=8; train.precision=bf16",
    }


def test_the_papers_augmentation_and_initial_step_length_are_those_of_our_protocol():
    protocol = yaml.safe_load(PROTOCOL.read_text())
    for name, task in names.TASKS.items():
        domain = "language" if name in names.LANGUAGE else "vision"
        prescribed = read_yaml(CONFIGS / f"task/{name}.yaml").get("prescribes", {})
        ours = protocol[domain] | prescribed | protocol["tasks"].get(name, {})
        reps_rel = {key: float(value) for key, value in ours["reps_rel"].items()}
        theirs = names.FIRST_MOVEMENTS[task]
        assert reps_rel == {"dog": theirs["DoG"], "ldog": theirs["L-DoG"]}, name
        assert ours["augment"] == names.AUGMENTS.get(task, "none"), name


def test_another_metric_is_named_and_not_subtracted(frame_of):
    made = made_up.record(0.5, opt="dog", **PAPER | {"task": "cola", "steps": 1000})
    (cell,) = cells_of(frame_of(made))
    assert np.isnan(cell["difference"]) and "metric accuracy, paper Matthews" in cell["departures"]
    right = dog_as_in_the_paper(0.6, **PAPER | {"task": "cola", "steps": 1000})
    right["settings"]["task"]["metric"] = "matthews"
    (cell,) = cells_of(frame_of(right))
    assert cell["departures"] == "" and cell["difference"] == pytest.approx(60 - cell["paper_mean"])


def test_two_protocols_are_two_lines(frame_of):
    made = [made_up.record(score, opt="dog", **PAPER | {"protocol": (protocol, 1)})
            for protocol, score in (("paper", 0.8), ("lite", 0.6))]  # fmt: skip
    cells = cells_of(frame_of(*made))
    assert [(cell["protocol"], round(cell["mean"])) for cell in cells] == [
        ("lite v1", 60),
        ("paper v1", 80),
    ]


def test_tables_1_and_2_have_both_iterates(frame_of):
    scratch = {"task": "cifar_scratch", "model": "wrn28_10", "protocol": ("paper", 1)}
    made = made_up.record((0.80, 0.95), opt="dog", batch_size=128, **scratch)
    last, averaged = sorted(cells_of(frame_of(made)), key=lambda cell: cell["mean"])
    assert (last["iterate"], averaged["iterate"]) == ("last", "averaged")
    assert (last["paper_mean"], averaged["paper_mean"]) == (85.2, 96.4)
    assert averaged["difference"] == pytest.approx(95 - 96.4)
    assert last["departures"] == ("steps 468, paper 78,125; training examples 5,000, paper 50,000")


def test_every_cell_of_the_paper_has_a_name_of_ours():
    cells = published._cells()
    assert set(cells["model"]) == set(names.MODELS.values())
    assert set(cells["task"]) == set(names.TASKS.values())
    assert set(cells["optimizer"]) == set(names.OPTIMIZERS.values())
    assert set(cells["task"]) == set(published._budgets())
    canonical = cells[(cells["optimizer"] == "SGD mom 0.9") & (cells["rate"] == 0.1)]
    assert len(canonical) == 2
    assert cells[[*published.CELL, "iterate", "paper_mean"]].notna().all(axis=None)


def test_without_such_records_no_file_is_written_and_with_them_two(frame_of, tmp_path):
    frame = frame_of(made_up.record(0.5))
    assert files_of(published.pages_of_published(frame)) == {}
    frame = frame_of(made_up.record(0.5, opt="dog", **CIFAR), made_up.failure(opt="ldog", **CIFAR))
    files = files_of(published.pages_of_published(frame))
    assert sorted(files) == ["published.csv", "published.md"]
    assert "paper v1" in files["published.md"] and "batch size 32" in files["published.md"]
    write_pages(published.pages_of_published(frame), tmp_path / "tables")
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == sorted(files)
    write_pages([], tmp_path / "tables")
    assert list((tmp_path / "tables").iterdir()) == []


def test_other_settings_of_dog_are_not_the_papers_cell(frame_of):
    changed = made_up.record(0.5, opt="dog", changed={"reps_rel": 1e-3}, **PAPER)
    assert published.compare_with_paper(frame_of(changed)).empty
