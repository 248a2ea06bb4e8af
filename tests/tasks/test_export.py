"""export=averaged: the trained network in its library's format, with the record's accuracy."""

import json
import re

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT
from PIL import Image

from runner import config
from runner.run import Job, build_task, run
from tasks.data.own.images import upright
from tasks.errors import UserError
from tasks.export import export

SHORT = ["train.steps=12", "train.batch_size=16", "train.eval_every=6"]
SHORT += ["train.train_examples=48", "train.validation_examples=16", "train.test_examples=60"]
SHORT += ["wandb.mode=disabled", "progress=false", "opt=adam", "opt.lr=0.003"]


@pytest.fixture
def trained(tmp_path, made_up_data):
    """A function that trains a network on made-up data; its task, record and exported folder."""

    def of(task, model, *words, weights="averaged"):
        small = ["train.image_size=24"] * (task == "cifar")
        words = [f"task={task}", f"model={model}", f"export={weights}", *SHORT, *small, *words]
        loaded = config.load([*words, f"runs_dir={tmp_path}/runs", f"data_dir={tmp_path}/data"])
        record = run(loaded)
        return build_task(loaded), record, Job.of(loaded).folder.model(weights)

    return of


def script(library):
    """The script of docs/models.md that loads an exported network."""
    text = (ROOT / "docs/models.md").read_text()
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if library in c)
    assert sum(map(bool, code.splitlines())) <= 11
    return code


def is_right(record, weights="averaged"):
    """Whether each test example was answered rightly."""
    bits = np.frombuffer(bytes.fromhex(record.results.test_correct[weights]), np.uint8)
    return np.unpackbits(bits, count=record.results.test.examples).astype(bool)


def answers(library, exported, inputs, tmp_path):
    """What the script answers, as numbers of classes."""
    code = script(library).replace("FOLDER", str(exported))
    names = {"files": [], "texts": inputs}
    if library == "timm":
        for index, pixels in enumerate(inputs):
            names["files"].append(tmp_path / f"{index}.png")
            Image.fromarray(pixels).save(names["files"][-1])
    exec(code, names)
    return names["answers"]


def test_script_sees_a_users_images_as_the_runs_see_them(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (20, 30, 4), np.uint8)
    image = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(tmp_path / "transparent.png")
    image.convert("RGB").save(tmp_path / "turned.jpg", exif=turned)
    image.convert("L").save(tmp_path / "grey.webp")
    image.convert("P").save(tmp_path / "palette.gif", transparency=3)
    names = {}
    exec(script("timm").partition("model =")[0], names)
    for file in tmp_path.iterdir():
        seen, _ = upright(file.open("rb"), 256)
        assert np.array_equal(names["read"](file), seen), file.name


@pytest.mark.parametrize("model", ["timm:FOLDER/resnet", "timm:FOLDER/vit", "efficientnet_lite0"])
def test_timm_alone_gives_the_records_answers(trained, networks, tmp_path, model):
    words = ["task.synthetic=true"] if model == "efficientnet_lite0" else ["train.image_size=32"]
    task, record, exported = trained("cifar", model.replace("FOLDER", str(networks)), *words)
    examples = task.splits["test"]
    found = answers("timm", exported, examples.inputs, tmp_path)
    assert len(set(found)) > 2 and is_right(record).any() and not is_right(record).all()
    right = [task.classes.index(name) for name in found] == examples.labels
    assert right.tolist() == is_right(record).tolist()
    assert right.mean() == record.results.test.averaged


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("hf:FOLDER/bert", ["opt.lr=0.01"]),
        ("hf:FOLDER/gpt2", ["opt.lr=0.01", "train.max_tokens=5"]),
        ("minilm", ["task.synthetic=true", "train.max_tokens=5"]),
        ("minilm", ["task.synthetic=true", "model.lora=4"]),
    ],
)
def test_transformers_alone_gives_the_records_answers(trained, networks, tmp_path, model, words):
    task, record, exported = trained("newsgroups", model.replace("FOLDER", str(networks)), *words)
    examples = task.splits["test"]
    found = answers("transformers", exported, list(examples.inputs), tmp_path)
    assert len(set(found)) > 2 and is_right(record).any() and not is_right(record).all()
    right = [task.classes.index(name) for name in found] == examples.labels
    assert right.tolist() == is_right(record).tolist()


def test_network_whose_layers_share_weights_is_exported(trained, networks, tmp_path):
    task, _, _ = trained("cifar", f"timm:{networks}/resnet", "train.steps=2", "train.eval_every=2")
    network = task.network().eval()
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    first, second = [n for n in norms if n.num_features == norms[-1].num_features][:2]
    first.weight = second.weight
    export(task, network, tmp_path / "shared")
    again = timm.create_model(f"local-dir:{tmp_path}/shared", pretrained=True).eval()
    images, _ = task.batch("test", torch.arange(4))
    assert torch.equal(again(images), network(images))


def test_exported_network_can_be_trained_again_by_its_folder(trained, networks):
    _, _, exported = trained("cifar", f"timm:{networks}/resnet", "train.steps=1")
    model = config.load(["task=cifar", f"model=timm:{exported}"]).spec.model
    before = config.load(["task=cifar", f"model=timm:{networks}/resnet"]).spec.model
    assert (model.arch, model.interpolation) == (before.arch, before.interpolation)
    assert model.mean == pytest.approx(before.mean) and model.std == pytest.approx(before.std)
    described = json.loads((exported / "config.json").read_text())
    assert described["label_names"] == [f"colour {i}" for i in range(10)]


def test_text_to_text_networks_and_regressions_are_exported_as_what_they_are(tmp_path):
    from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

    for task, model in (("cola", "t5_base"), ("stsb", "minilm")):
        built = build_task(config.load([f"task={task}", f"model={model}", "task.synthetic=true"]))
        export(built, built.network(), tmp_path / task)
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "cola").config.model_type == "t5"
    numbers = AutoModelForSequenceClassification.from_pretrained(tmp_path / "stsb")
    assert numbers.num_labels == 1


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("last", []),
        ("averaged", ["train.checkpoint=best"]),
        ("averaged", ["opt=sf_sgd", "opt.lr=0.1", "train.checkpoint=best"]),
    ],
    ids=str,
)
def test_weights_are_those_that_were_scored(trained, networks, tmp_path, weights, words):
    task, record, exported = trained("cifar", f"timm:{networks}/resnet", *words, weights=weights)
    found = answers("timm", exported, task.splits["test"].inputs, tmp_path)
    right = [task.classes.index(name) for name in found] == task.splits["test"].labels
    iterate = "last" if record.results.test.averaged is None else weights
    assert right.tolist() == is_right(record, iterate).tolist()


def test_same_command_again_says_where_the_model_is_and_one_without_it_what_to_do(
    trained, networks, caplog
):
    short = ["train.steps=2", "train.eval_every=2"]
    choice = f"timm:{networks}/resnet"
    _, _, exported = trained("cifar", choice, *short)
    caplog.clear()
    with caplog.at_level("INFO"):
        trained("cifar", choice, *short)
    assert f"trained model, averaged weights: {exported}" in caplog.text
    with pytest.raises(UserError, match=r"last weights were not kept: .*runs_dir=mine/runs"):
        trained("cifar", choice, *short, weights="last")


@pytest.mark.parametrize(
    ("task", "model"),
    [("cifar", "squeezenet"), ("cifar_scratch", "wrn28_10"), ("probe_cifar", "mobilenetv2")],
)
def test_network_of_no_library_is_refused_before_it_is_trained(trained, tmp_path, task, model):
    with pytest.raises(UserError, match="no network of timm or transformers") as refusal:
        trained(task, model, "task.synthetic=true")
    assert "\n" not in str(refusal.value) and not list(tmp_path.glob("runs/*/*"))


def test_diverged_run_keeps_no_model(trained, networks, monkeypatch):
    _, record, exported = trained("cifar", f"timm:{networks}/resnet", "opt=sgd", "opt.lr=1e30")
    assert record.status == "diverged" and not exported.exists()


def test_model_of_a_record_that_was_put_aside_is_not_kept(trained, networks, tmp_path):
    choice, short = f"timm:{networks}/resnet", "train.steps=1"
    _, _, exported = trained("cifar", choice, short)
    (exported.parent / "record.json").write_text("damaged")
    words = ["task=cifar", f"model={choice}", *SHORT, short, "train.image_size=24"]
    words.append(f"data_dir={tmp_path}/data")
    run(config.load([*words, f"runs_dir={tmp_path}/runs"]))  # trained again, and nothing exported
    with pytest.raises(UserError, match="its averaged weights were not kept"):
        trained("cifar", choice, short)
