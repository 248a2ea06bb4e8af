"""The sweeps of the paper's tables try what the paper tried."""

import csv

import pytest
from conftest import ROOT
from omegaconf import OmegaConf

from runner import config
from sweeps import plan

# The paper's names, by ours.
MODELS = {"roberta_base": "RoBERTa-b", "t5_base": "T5-b"}
TASKS = {"cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "qqp": "QQP", "stsb": "STS-B"}
TASKS |= {"mnli": "MNLI", "qnli": "QNLI", "rte": "RTE", "squad": "SQuAD"}
OPTIMIZERS = {"sgd": "SGD", "adam": "Adam"}


def published():
    with (ROOT / "results" / "paper" / "tables_4_5.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["table"] == "4"]


def parts():
    return OmegaConf.to_container(OmegaConf.load(config.CONFIGS / "sweep/paper_language.yaml"))[
        "parts"
    ]


def model_of(part):
    return dict(word.split("=") for word in part["overrides"])["model"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_grids_of_table_4_are_its_rows(model, optimizer):
    rates = {
        float(row["peak_lr"])
        for row in published()
        if row["model"] == MODELS[model] and row["optimizer"] == OPTIMIZERS[optimizer]
    }
    grids = [part["grids"][optimizer]["lr"] for part in parts() if model_of(part) == model]
    assert grids and all(sorted(rates) == grid for grid in grids)


def test_table_4_has_every_cell_of_the_paper_once():
    cells = [
        (MODELS[model_of(part)], TASKS[task], optimizer)
        for part in parts()
        for task in part["tasks"]
        for optimizer in part["optimizers"]
    ]
    assert len(cells) == len(set(cells)) == 2 * 9 * 4
    assert {(row["model"], row["task"]) for row in published() if row["task"] != "Avg."} == {
        cell[:2] for cell in cells
    }


def test_a_sweep_of_table_4_can_be_planned(tmp_path):
    part = {**parts()[0], "tasks": ["squad"], "optimizers": ["ldog", "adam"]}
    part["grids"] = {"adam": part["grids"]["adam"]}
    sweep = tmp_path / "one.yaml"
    OmegaConf.save({"parts": [part]}, sweep)
    runs = plan.load(str(sweep), [f"runs_dir={tmp_path}"]).tuning()
    assert [run.config.spec.opt.name for run in runs] == ["ldog"] + 5 * ["adam"]
    train = runs[0].config.spec.train
    assert (train.steps, train.batch_size, train.max_tokens) == (5475, 48, 384)
    assert (
        runs[0].config.spec.opt.reps_rel == 1e-8
        and runs[0].config.spec.model.arch == "roberta-base"
    )
