"""The sweeps of the paper's vision tables and figures try what the paper tried."""

import csv

import pytest
from conftest import ROOT
from omegaconf import OmegaConf

from runner import config
from sweeps import plan

# The paper's names, by ours.
MODELS = {"vgg11": "VGG11", "resnet50": "ResNet50", "densenet121": "Densenet121"}
MODELS |= {"vit_b32": "ViT-B/32", "convnext_tiny": "ConvNeXt-T"}
TASKS = {"caltech101": "Caltech101", "cifar100": "CIFAR-100", "dtd": "DTD", "pets": "Pets"}
TASKS |= {"flowers102": "Flowers102", "sun397": "Sun397", "svhn": "SVHN", "dmlab": "DMLab"}
TASKS |= {"resisc45": "Resisc45", "retinopathy": "Retinopathy", "clevr_dist": "Clevr-Dist"}
TASKS |= {"dsprites_ori": "dSprites-Ori"}


def published(file):
    with (ROOT / "results" / "paper" / f"{file}.csv").open() as opened:
        return list(csv.DictReader(opened))


def parts(sweep):
    path = config.CONFIGS / "sweep" / f"{sweep}.yaml"
    return OmegaConf.to_container(OmegaConf.load(path))["parts"]


def model_of(part):
    return dict(word.split("=") for word in part["overrides"])["model"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("optimizer", "name"), [("sgd", "SGD"), ("adam", "Adam")])
def test_grids_of_table_5_are_its_rows(model, optimizer, name):
    rates = {
        float(row["peak_lr"])
        for row in published("tables_4_5")
        if (row["table"], row["model"], row["optimizer"]) == ("5", MODELS[model], name)
    }
    (part,) = (part for part in parts("paper_vision") if model_of(part) == model)
    assert rates and part["grids"][optimizer]["lr"] == sorted(rates)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("optimizer", "name"), [("sgd", "SGD"), ("adam", "Adam")])
def test_grids_of_the_convex_problems_are_figure_6s(model, optimizer, name):
    rates = {
        float(f"{float(row['x']):.0e}")  # read off a logarithmic axis
        for row in published("figures_digitized")
        if (row["figure"], row["panel"]) == ("Fig6", MODELS[model])
        and row["series"].startswith(f"{name} ")
    }
    (part,) = (part for part in parts("paper_convex") if model_of(part) == model)
    assert rates and part["grids"][optimizer]["lr"] == sorted(rates)


@pytest.mark.parametrize(
    ("sweep", "table", "names"),
    [
        ("paper_imagenet", "1", {"sgd": "SGD", "adamw": "AdamW"}),
        (
            "paper_cifar_scratch",
            "2",
            {"sgd": "SGD", "sgd_momentum": "SGD mom 0.9", "adam": "Adam"},
        ),
    ],
)
def test_grids_of_tables_1_and_2_are_their_rows(sweep, table, names):
    (part,) = parts(sweep)
    assert set(part["optimizers"]) == {"dog", "ldog", *names}
    for optimizer, name in names.items():
        rates = [
            float(row["peak_lr"].split()[0])  # 0.1 (canonical)
            for row in published("tables_1_2")
            if (row["table"], row["algorithm"]) == (table, name)
        ]
        assert part["grids"][optimizer]["lr"] == sorted(rates)


@pytest.mark.parametrize(("sweep", "prefix"), [("paper_vision", ""), ("paper_convex", "probe_")])
def test_every_network_meets_every_task(sweep, prefix):
    found = parts(sweep)
    assert [model_of(part) for part in found] == list(MODELS)
    assert {row["task"] for row in published("tables_4_5") if row["table"] == "5"} == {
        *TASKS.values(),
        "Avg.",
    }
    for part in found:
        assert set(part["tasks"]) == {f"{prefix}{task}" for task in TASKS}
        assert part["optimizers"] == ["dog", "ldog", "sgd", "adam"]
        assert part["seeds"] == ([0] if model_of(part) == "convnext_tiny" else [0, 1, 2, 3, 4])


def test_sweeps_of_tables_1_and_2_can_be_planned(tmp_path):
    runs = plan.load("paper_cifar_scratch", [f"runs_dir={tmp_path}"]).tuning()
    assert len(runs) == 2 + 5 + 5 + 4
    train = runs[0].config.spec.train
    assert (train.steps, train.batch_size, train.augment) == (78125, 128, "padded_crop")
    assert (
        runs[0].config.spec.model.name == "wrn28_10"
        and runs[2].config.spec.opt.weight_decay == 5e-4
    )
    assert runs[0].config.spec.opt.reps_rel == 1e-4 and train.checkpoint is None
    first, *_, last = plan.load("paper_imagenet", [f"runs_dir={tmp_path}"]).tuning()
    assert first.config.spec.opt.reps_rel == 1e-6 and first.config.spec.train.batch_size == 512
    assert last.config.spec.opt.weight_decay == 0.1 and last.config.spec.train.augment == "timm"
