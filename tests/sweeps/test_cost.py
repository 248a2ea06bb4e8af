"""The price of a sweep, by hand-worked cases: what is unknown stays unknown."""

import copy
import shutil
from collections import namedtuple

import pytest
import timm
import torch
from made_up_records import collected, record, write
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode
from transformers import RobertaConfig, RobertaForSequenceClassification

from analysis import records
from runner import identity
from runner.config import CONFIGS
from runner.run_record import RunRecord
from sweeps import cost as price
from sweeps import cost_text as price_text
from sweeps import operations, plan
from sweeps.cost import Machine
from sweeps.packing import write_archive
from tasks.errors import UserError
from tasks.wide_resnet import WideResNet

HERE = Machine("a cpu", threads=2, slots=2)
PART = {
    "tasks": ["probe_cifar"],
    "optimizers": ["dog", "sgd"],
    "seeds": [0, 1],
    "overrides": ["protocol=smoke"],
    "grids": {"sgd": {"lr": [0.001, 0.01, 0.1]}},
}


@pytest.fixture(autouse=True)
def _nothing_committed(monkeypatch, tmp_path):
    monkeypatch.setattr(price, "COMMITTED", tmp_path / "committed")


@pytest.fixture
def sweep(tmp_path):
    OmegaConf.save(OmegaConf.create({"parts": [PART]}), tmp_path / "small.yaml")
    return plan.load(
        str(tmp_path / "small.yaml"), [f"runs_dir={tmp_path}/runs", f"data_dir={tmp_path}/data"]
    )


def a_record(
    run, seconds, cpu="a cpu", threads=2, steps=None, status="finished", replicas=2, **train
):
    """The record that a planned run might leave; other steps make it another problem's."""
    made = record(0.5, seconds=seconds, status=status)
    settings = copy.deepcopy(run.config.spec.settings)  # which is kept
    settings["train"] |= {"steps": steps or settings["train"]["steps"], **train}
    made |= {
        "settings": settings,
        "run_id": identity.run_id(settings),
        "problem_id": identity.problem_id(settings),
        "sources": {**run.folder.sources},
        "hardware": {**made["hardware"], "cpu": cpu},
    }
    made["measured"] |= {"threads": threads, "replicas": replicas}
    return made


def estimate(folder, run, *made, machine=HERE):
    return price.Earlier(collected(folder, *made), machine).estimate(run)


def test_same_runs_give_their_median_and_diverged_ones_nothing(sweep, tmp_path):
    dog, low, middle, high = sweep.tuning()
    made = [a_record(low, 10), a_record(middle, 12), a_record(high, 30), a_record(dog, 99)]
    made.append(a_record(sweep.reporting({})[2], 1, status="diverged"))
    assert estimate(tmp_path, low, *made) == (12, "same runs, this processor")


def test_other_optimizers_of_the_problem_come_next(sweep, tmp_path):
    dog, low, *_ = sweep.tuning()
    assert estimate(tmp_path, dog, a_record(low, 10)) == (10, "other optimizers, this processor")


def test_other_protocols_are_scaled_by_steps(sweep, tmp_path):
    dog, low, *_ = sweep.tuning()
    assert dog.steps == 500
    seconds, basis = estimate(tmp_path, dog, a_record(low, 10, steps=2000))
    assert seconds == pytest.approx(2.5) and basis == "other protocols, by steps, this processor"


def test_examples_of_another_size_tell_nothing(sweep, tmp_path):
    dog, low, *_ = sweep.tuning()
    assert estimate(tmp_path, dog, a_record(low, 10, steps=2000, image_size=224)) is None


def test_this_processor_comes_before_others_and_its_threads_before_other_numbers(sweep, tmp_path):
    dog, low, *_ = sweep.tuning()
    elsewhere = a_record(dog, 3, cpu="another")
    assert estimate(tmp_path / "a", dog, elsewhere) == (3, "same runs, another processor")
    scaled = a_record(low, 8, steps=1000, threads=1)
    assert estimate(tmp_path / "b", dog, elsewhere, scaled) == (
        4,
        "other protocols, by steps, this processor, other threads or replicas",
    )
    here = a_record(low, 5)
    assert estimate(tmp_path / "c", dog, elsewhere, scaled, here)[0] == 5


def test_runs_that_trained_as_planned_come_before_others(sweep, tmp_path):
    dog, low, *_ = sweep.tuning()
    made = [a_record(dog, 9, replicas=1), a_record(low, 2, replicas=8)]
    del made[0]["measured"]["replicas"]  # as of an older version: by itself
    assert estimate(tmp_path, dog, *made) == (2, "other optimizers, this processor")
    alone = Machine("a cpu", threads=2, slots=2, replicas=1)
    assert estimate(tmp_path, dog, *made, machine=alone) == (9, "same runs, this processor")
    assert estimate(tmp_path, low, *made, machine=alone) == (9, "other optimizers, this processor")


def test_what_is_unknown_is_said_to_be(sweep):
    found = price.price(sweep, {}, records.empty(), HERE)
    assert found.unknown == found.to_do == 4 + 4 and price_text.time(found) == "unknown"
    text = price_text.whole(found)
    assert "time: unknown (8 runs without an estimate)" in text and "unknown for runs" in text
    assert "tuning: 4 runs, 0 done before, 4 to do\n" in text


def test_a_sum_without_some_runs_is_a_least_one(sweep, tmp_path):
    dog, *rest = sweep.tuning()
    OmegaConf.save(
        OmegaConf.create({"parts": [PART, {**PART, "overrides": ["train.image_size=32"]}]}),
        tmp_path / "two.yaml",
    )
    two = plan.load(str(tmp_path / "two.yaml"), [f"runs_dir={tmp_path}/runs"])
    frame = collected(tmp_path, *[a_record(run, 3600.0) for run in [dog, *rest]])
    found = price.price(two, {}, frame, HERE)
    # 4 runs are reported of the problem that is known, an hour each, two at a time.
    assert found.seconds == 4 * 3600 / 2 and found.unknown == 4 + 4
    assert price_text.time(found) == "at least 2.0 h"


def test_before_tuning_is_done_the_reported_runs_are_bounded(sweep, tmp_path):
    dog, *sgd = sweep.tuning()
    tuning, reporting = price.price(sweep, {}, records.empty(), HERE).stages
    assert (tuning.least, tuning.runs, tuning.most) == (4, 4, 4)
    # On 2 seeds each: DoG and SGD's default at least; besides these two of SGD's three points,
    # of which one is the default.
    assert (reporting.least, reporting.runs, reporting.most) == (4, 4, 8)
    frame = collected(tmp_path, *[a_record(run, 1.0) for run in [dog, *sgd]])
    choices = price.chosen(sweep, frame)
    tuning, reporting = price.price(sweep, choices, frame, HERE).stages
    assert tuning.to_do == 0 and reporting.least == reporting.runs == reporting.most


def test_a_sweep_chooses_among_the_points_of_its_own_plan(sweep, tmp_path):
    part = {**PART, "grids": {"sgd": {"lr": [10.0]}}}
    OmegaConf.save(OmegaConf.create({"parts": [part]}), tmp_path / "wider.yaml")
    folders = [f"runs_dir={tmp_path}/runs", f"data_dir={tmp_path}/data"]
    _, others = plan.load(str(tmp_path / "wider.yaml"), folders).tuning()
    _, own, *_ = sweep.tuning()
    made = []
    for run, score in ((own, 0.6), (others, 0.9)):
        rate = {"lr": run.config.spec.opt.lr}
        made.append(a_record(run, 1.0) | {"opt_default": False, "opt_changed": rate})
        made[-1]["results"]["validation"] |= {"last": score, "averaged": score}
    choices = price.chosen(sweep, collected(tmp_path, *made))
    assert choices[own.problem_id, "sgd"] == [{}, {"lr": 0.001}]


def test_what_was_done_and_is_no_longer_planned_leaves_no_negative_rest():
    tuning = price.Stage("tuning", [price.Line("cifar", "sgd", 4, 1, 0.0, 1, ())], 4, 4)
    reporting = price.Stage("reporting", [price.Line("cifar", "sgd", 8, 0, 0.0, 0, ())], 4, 10)
    found = price.Price(HERE, [tuning, reporting], [], [], 0, 0, None, [], lambda run: None)
    assert found.in_the_end == (1, 1 + 2)


def test_two_parts_that_share_a_problem_and_an_optimizer_bound_it_together(tmp_path):
    parts = [{**PART, "grids": {"sgd": {"lr": rates}}} for rates in ([0.001, 0.01], [0.1, 1.0])]
    OmegaConf.save(OmegaConf.create({"parts": parts}), tmp_path / "two.yaml")
    two = plan.load(str(tmp_path / "two.yaml"), [f"runs_dir={tmp_path}/runs"])
    # DoG's default and SGD's, with four or, if one of them is the default, three other rates.
    reporting = price.price(two, {}, records.empty(), HERE).stages[1]
    default = any(
        run.config.spec.opt.lr == two.cells[1].config.spec.opt.lr for run in two.tuning()[1:]
    )
    assert (reporting.least, reporting.most) == (4, 2 * (1 + 5 - default))


def test_disk_of_runs_is_that_of_earlier_ones_in_whole_blocks(sweep, tmp_path):
    dog, low, *_ = sweep.tuning()
    folder = write(tmp_path / "runs", a_record(dog, 1.0)).parent
    (folder / "metrics.jsonl").write_bytes(bytes(5000))
    (folder / "wandb").mkdir()
    (folder / "wandb" / "run.wandb").write_bytes(bytes(4097))
    for passing in ("checkpoint.pt", "record.json.damaged"):
        (folder / passing).write_bytes(bytes(9000))
    low.folder.make()
    low.folder.checkpoint.write_bytes(bytes(7))
    found = price.price(sweep, {}, price.known(tmp_path / "runs"), HERE)
    # Of the folder, its record, its metrics, and wandb's folder and file.
    each = folder.stat().st_size + 4096 + 8192 + 4096 + 8192
    assert found.to_do == 3 + 4 and found.run_bytes == 7 * each and found.unknown_bytes == 0
    assert found.checkpoint_bytes == 7
    runs = next(place for place in found.places if place.folder == tmp_path / "runs")
    archives = sum(one.bytes for one in found.archives) + 2 * 138_940_914  # the larger, unpacked
    assert runs.needed == 7 * each + 2 * 7 + archives


def test_a_disk_that_is_too_small_is_warned_of(sweep, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(400_000_000))
    text = price_text.short(price.price(sweep, {}, records.empty(), HERE))
    assert "download: 156.3 MB in 2 archives" in text
    assert "needs 434.2 MB and its disk has 400.0 MB free" in text.splitlines()[-1]


def test_what_a_hub_has_is_named_and_of_unknown_size(tmp_path):
    part = {**PART, "tasks": ["cola"], "overrides": []}
    OmegaConf.save(OmegaConf.create({"parts": [part]}), tmp_path / "hub.yaml")
    sweep = plan.load(str(tmp_path / "hub.yaml"), [f"data_dir={tmp_path}/data"])
    text = price_text.short(price.price(sweep, {}, records.empty(), HERE))
    assert "download: of unknown size: nyu-mll/glue, FacebookAI/roberta-base\n" in text


def test_records_that_come_with_the_code_count_unless_there_are_own_ones(
    sweep, tmp_path, monkeypatch
):
    dog = sweep.tuning()[0]
    monkeypatch.setattr(price, "COMMITTED", tmp_path / "elsewhere")
    write_archive(tmp_path / "elsewhere" / "all.jsonl.gz", [RunRecord.of(a_record(dog, 50))])
    nothing = price.price(sweep, {}, price.known(tmp_path / "runs"), HERE)
    assert nothing.stages[0].lines[0].seconds == 50
    own = price.price(sweep, {}, collected(tmp_path, a_record(dog, 70)), HERE)
    assert own.stages[1].lines[0].seconds == 2 * 70


def test_looking_at_what_is_known_writes_nothing_and_hides_no_error(sweep, tmp_path, monkeypatch):
    assert price.known(tmp_path / "runs").empty
    write(tmp_path / "runs", a_record(sweep.tuning()[0], 1.0))
    assert len(price.known(tmp_path / "runs")) == 1
    assert not (tmp_path / "records.csv").exists()

    def refuse(runs_dir):
        raise UserError("cannot read")

    monkeypatch.setattr(records, "read_runs", refuse)  # not taken for a folder without runs
    with pytest.raises(UserError, match="cannot read"):
        price.known(tmp_path / "runs")


def test_runs_without_an_estimate_have_gpu_hours_by_their_operations(tmp_path):
    part = {
        "tasks": ["pets"],
        "optimizers": ["dog", "sgd"],
        "seeds": [0],
        "overrides": [
            *("model=resnet50", "train.steps=100", "train.batch_size=10", "train.eval_every=50"),
            *("train.validation_examples=30", "train.test_examples=60", "train.image_size=224"),
        ],
        "grids": {"sgd": {"lr": [0.1, 0.2, 0.3]}},
    }
    OmegaConf.save(OmegaConf.create({"parts": [part]}), tmp_path / "pets.yaml")
    pets = plan.load(str(tmp_path / "pets.yaml"), [f"runs_dir={tmp_path}/runs"])
    # 100 steps of 10; two iterates at steps 50 and 100 and at the end, forward only.
    examples = operations.examples_of(pets.cells[0].config.spec)
    assert examples == pytest.approx(1000 + 2 * (3 * 30 + 60) / 3)
    hour = examples * 24.5e9 / 20e12 / 3600
    found = price.price(pets, {}, records.empty(), HERE)
    # DoG and 3 rates are tuned; DoG and SGD's default are reported at least, and each rate at most.
    assert found.gpu_hours == pytest.approx((6 * hour, 9 * hour))
    known = collected(tmp_path, *(a_record(run, 60.0, task="pets") for run in pets.tuning()[:1]))
    assert price.price(pets, {}, known, HERE).gpu_hours == (0, 0)


def test_gpu_hours_are_shown_where_operations_were_counted():
    def lines(gpu_hours):
        stages = [price.Stage("tuning", [], 0, 0), price.Stage("reporting", [], 0, 0)]
        found = price.Price(HERE, stages, [], [], 0, 0, None, [], lambda run: None, gpu_hours)
        return [line for line in price_text.short(found).splitlines() if "GPU" in line]

    assert lines((0.0, 0.0)) == []
    (line,) = lines((1509.0, 3012.0))
    assert line.startswith("GPU time: 1,500 to 3,000 h for the runs without an estimate")


@pytest.mark.parametrize("model", ["resnet50", "convnext_tiny", "wrn28_10", "roberta_base"])
def test_the_operations_are_those_of_the_networks(model):
    """Forward and backward of one example; the backward pass counts as twice the forward one."""
    size = next(size for name, size in operations._counted() if name == model)
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        if model == "wrn28_10":
            WideResNet(depth=28, width=10, outputs=10)(torch.zeros(1, 3, size, size))
        elif model == "roberta_base":
            settings = RobertaConfig(vocab_size=50265, max_position_embeddings=514)
            network = RobertaForSequenceClassification(settings)
            network(input_ids=torch.full((1, size), 5))
        else:
            arch = OmegaConf.load(CONFIGS / "model" / f"{model}.yaml").arch
            timm.create_model(arch, num_classes=100)(torch.zeros(1, 3, size, size))
    gigaflops = 3 * counter.get_total_flops() / 1e9
    assert gigaflops == pytest.approx(operations._counted()[model, size], rel=0.01)
