"""The cost estimate of a sweep, by hand-worked cases: what is unknown stays unknown."""

import shutil
from collections import namedtuple

import made_up_records as made_up
import pytest
import timm
import torch
from made_up_records import PART, collected, record_of, write
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode
from transformers import RobertaConfig, RobertaForSequenceClassification

from analysis import records
from runner import archive
from runner.config import CONFIGS
from runner.run_record import RunRecord
from sweeps import cost, cost_text, operations, plan
from sweeps.cost import CostLine, SweepStage
from sweeps.estimate import TimeLeft
from sweeps.packing import write_archive
from tasks.errors import UserError
from tasks.wide_resnet import WideResNet

HERE = {"processor": "a cpu", "slots": 2}


@pytest.fixture(autouse=True)
def _nothing_committed(monkeypatch, tmp_path):
    monkeypatch.setattr(cost, "COMMITTED", tmp_path / "committed")


@pytest.fixture
def sweep(tmp_path):
    OmegaConf.save(OmegaConf.create({"parts": [PART]}), tmp_path / "small.yaml")
    return plan.load(
        str(tmp_path / "small.yaml"), [f"runs_dir={tmp_path}/runs", f"data_dir={tmp_path}/data"]
    )


def test_what_is_unknown_is_said_to_be(sweep):
    found = cost.estimate_cost(sweep, {}, records.empty(), **HERE)
    assert found.time.unknown == found.to_do == 4 + 4 and str(found.time) == "unknown"
    text = cost_text.full(found)
    assert "time: unknown (8 runs without an estimate)" in text and "unknown for runs" in text
    assert "tuning: 4 runs, 0 done before, 4 to do\n" in text


def test_a_sum_without_some_runs_is_a_least_one(sweep, tmp_path):
    dog, *rest = sweep.tuning()
    OmegaConf.save(
        OmegaConf.create({"parts": [PART, {**PART, "overrides": ["train.image_size=32"]}]}),
        tmp_path / "two.yaml",
    )
    two = plan.load(str(tmp_path / "two.yaml"), [f"runs_dir={tmp_path}/runs"])
    frame = collected(tmp_path, *[record_of(run, 3600.0) for run in [dog, *rest]])
    found = cost.estimate_cost(two, {}, frame, **HERE)
    # 4 runs are reported of the problem that is known, an hour each, two at a time.
    assert found.time.seconds == 4 * 3600 / 2 and found.time.unknown == 4 + 4
    assert str(found.time) == "at least 2.0 h"


def test_before_tuning_is_done_the_reported_runs_are_bounded(sweep, tmp_path):
    dog, *sgd = sweep.tuning()
    tuning, reporting = cost.estimate_cost(sweep, {}, records.empty(), **HERE).stages
    assert (tuning.least, tuning.runs, tuning.most) == (4, 4, 4)
    # On 2 seeds each: DoG and SGD's default at least; besides these two of SGD's three points,
    # of which one is the default.
    assert (reporting.least, reporting.runs, reporting.most) == (4, 4, 8)
    frame = collected(tmp_path, *[record_of(run, 1.0) for run in [dog, *sgd]])
    choices = cost.chosen(sweep, frame)
    tuning, reporting = cost.estimate_cost(sweep, choices, frame, **HERE).stages
    assert tuning.to_do == [] and reporting.least == reporting.runs == reporting.most


def test_a_sweep_chooses_among_the_points_of_its_own_plan(sweep, tmp_path):
    part = {**PART, "grids": {"sgd": {"lr": [10.0]}}}
    OmegaConf.save(OmegaConf.create({"parts": [part]}), tmp_path / "wider.yaml")
    folders = [f"runs_dir={tmp_path}/runs", f"data_dir={tmp_path}/data"]
    _, others = plan.load(str(tmp_path / "wider.yaml"), folders).tuning()
    _, own, *_ = sweep.tuning()
    made = []
    for run, score in ((own, 0.6), (others, 0.9)):
        rate = {"lr": run.config.spec.opt.lr}
        made.append(record_of(run, 1.0) | {"opt_default": False, "opt_changed": rate})
        made[-1]["results"]["validation"] |= {"last": score, "averaged": score}
    choices = cost.chosen(sweep, collected(tmp_path, *made))
    assert choices[own.problem_id, "sgd"] == [{}, {"lr": 0.001}]


def estimate_of(*stages, gpu_hours=(0.0, 0.0)):
    """The cost estimate of these stages, of which nothing else is known."""
    estimator = cost.RuntimeEstimator(records.empty(), "a cpu")
    time = TimeLeft(0, 0, 0.0)
    return cost.CostEstimate(
        estimator, 2, list(stages), 0, 0, time, [], [], 0, 0, None, [], gpu_hours
    )


def test_what_was_done_and_is_no_longer_planned_leaves_no_negative_rest(sweep):
    run, time = sweep.tuning()[0], TimeLeft(1, 1, 0.0)
    tuning = SweepStage("tuning", [CostLine("cifar", "sgd", 4, [run], time, ())], 4, 4)
    reporting = SweepStage("reporting", [CostLine("cifar", "sgd", 8, [], time, ())], 4, 10)
    assert estimate_of(tuning, reporting).in_the_end == (1, 1 + 2)


def test_two_parts_that_share_a_problem_and_an_optimizer_bound_it_together(tmp_path):
    parts = [{**PART, "grids": {"sgd": {"lr": rates}}} for rates in ([0.001, 0.01], [0.1, 1.0])]
    OmegaConf.save(OmegaConf.create({"parts": parts}), tmp_path / "two.yaml")
    two = plan.load(str(tmp_path / "two.yaml"), [f"runs_dir={tmp_path}/runs"])
    # DoG's default and SGD's, with four or, if one of them is the default, three other rates.
    reporting = cost.estimate_cost(two, {}, records.empty(), **HERE).stages[1]
    default = any(
        run.config.spec.opt.lr == two.cells[1].config.spec.opt.lr for run in two.tuning()[1:]
    )
    assert (reporting.least, reporting.most) == (4, 2 * (1 + 5 - default))


def test_disk_of_runs_is_that_of_earlier_ones_in_whole_blocks(sweep, tmp_path):
    dog, low, *_ = sweep.tuning()
    folder = write(tmp_path / "runs", record_of(dog, 1.0)).parent
    (folder / "metrics.jsonl").write_bytes(bytes(5000))
    (folder / "wandb").mkdir()
    (folder / "wandb" / "run.wandb").write_bytes(bytes(4097))
    for passing in ("checkpoint.pt", "record.json.damaged"):
        (folder / passing).write_bytes(bytes(9000))
    low.folder.make()
    low.folder.checkpoint.write_bytes(bytes(7))
    found = cost.estimate_cost(sweep, {}, cost.known(tmp_path / "runs"), **HERE)
    # Of the folder, its record, its metrics, and wandb's folder and file.
    each = folder.stat().st_size + 4096 + 8192 + 4096 + 8192
    assert found.to_do == 3 + 4 and found.run_bytes == 7 * each and found.unknown_bytes == 0
    assert found.checkpoint_bytes == 7
    runs = next(disk for disk in found.disks if disk.folder == tmp_path / "runs")
    archives = sum(one.bytes for one in found.archives) + 2 * 138_940_914  # the larger, unpacked
    assert runs.needed == 7 * each + 2 * 7 + archives


def test_a_disk_that_is_too_small_is_warned_of(sweep, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(400_000_000))
    text = cost_text.short(cost.estimate_cost(sweep, {}, records.empty(), **HERE))
    assert "download: 156.3 MB in 2 archives" in text
    assert "needs 434.2 MB and its disk has 400.0 MB free" in text.splitlines()[-1]


def test_what_a_hub_has_is_named_and_of_unknown_size(tmp_path):
    part = {**PART, "tasks": ["cola"], "overrides": []}
    OmegaConf.save(OmegaConf.create({"parts": [part]}), tmp_path / "hub.yaml")
    sweep = plan.load(str(tmp_path / "hub.yaml"), [f"data_dir={tmp_path}/data"])
    text = cost_text.short(cost.estimate_cost(sweep, {}, records.empty(), **HERE))
    assert "download: of unknown size: nyu-mll/glue, FacebookAI/roberta-base\n" in text


def test_records_that_come_with_the_code_count_unless_there_are_own_ones(
    sweep, tmp_path, monkeypatch
):
    dog = sweep.tuning()[0]
    monkeypatch.setattr(cost, "COMMITTED", tmp_path / "elsewhere")
    write_archive(tmp_path / "elsewhere" / "all.jsonl.gz", [RunRecord.of(record_of(dog, 50))])
    nothing = cost.estimate_cost(sweep, {}, cost.known(tmp_path / "runs"), **HERE)
    assert nothing.stages[0].lines[0].time.seconds == 50
    own = cost.estimate_cost(sweep, {}, collected(tmp_path, record_of(dog, 70)), **HERE)
    assert own.stages[1].lines[0].time.seconds == 2 * 70


def test_of_the_records_that_come_with_the_code_those_of_other_tasks_are_not_parsed(
    sweep, tmp_path, monkeypatch
):
    dog, *_ = sweep.tuning()
    others = [made_up.record(0.5, seed=seed, task="other") for seed in range(3)]
    made = [RunRecord.of(record) for record in [record_of(dog, 50), *others]]
    write_archive(tmp_path / "committed" / "all.jsonl.gz", made)
    parsed = []
    monkeypatch.setattr(
        archive, "parse_line", lambda line: parsed.append(line) or RunRecord.of_json(line)
    )
    found = cost.estimate_cost(sweep, {}, records.empty(), **HERE)
    assert found.stages[0].lines[0].time.seconds == 50 and len(parsed) == 1


def test_looking_at_what_is_known_writes_nothing_and_hides_no_error(sweep, tmp_path, monkeypatch):
    assert cost.known(tmp_path / "runs").empty
    write(tmp_path / "runs", record_of(sweep.tuning()[0], 1.0))
    assert len(cost.known(tmp_path / "runs")) == 1
    assert not (tmp_path / "records.csv").exists()

    def refuse(runs_dir):
        raise UserError("cannot read")

    monkeypatch.setattr(records, "read_runs", refuse)  # not taken for a folder without runs
    with pytest.raises(UserError, match="cannot read"):
        cost.known(tmp_path / "runs")


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
    found = cost.estimate_cost(pets, {}, records.empty(), **HERE)
    # DoG and 3 rates are tuned; DoG and SGD's default are reported at least, and each rate at most.
    assert found.gpu_hours == pytest.approx((6 * hour, 9 * hour))
    known = collected(tmp_path, *(record_of(run, 60.0, task="pets") for run in pets.tuning()[:1]))
    assert cost.estimate_cost(pets, {}, known, **HERE).gpu_hours == (0, 0)


def test_gpu_hours_are_shown_where_operations_were_counted():
    def lines(gpu_hours):
        stages = [SweepStage("tuning", [], 0, 0), SweepStage("reporting", [], 0, 0)]
        found = estimate_of(*stages, gpu_hours=gpu_hours)
        return [line for line in cost_text.short(found).splitlines() if "GPU" in line]

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
