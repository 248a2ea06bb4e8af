"""model=timm:... and model=hf:...: any network, described by its own configuration."""

import json
import shutil
from types import SimpleNamespace

import httpx
import huggingface_hub
import numpy as np
import own_models as copies
import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from runner import config
from runner.identity import data_id
from runner.run import Job, build_task, run
from tasks import own_models
from tasks.data.hub import copy_of
from tasks.errors import UserError
from tasks.models import timm_from_file

SHORT = ["train.steps=2", "train.batch_size=4", "train.eval_every=2"]
SHORT += ["train.train_examples=8", "train.validation_examples=8", "train.test_examples=20"]
SHORT += ["wandb.mode=disabled", "progress=false"]


@pytest.fixture
def load(tmp_path, made_up_data):
    """A function that composes a short run of a network, on data that are made up."""

    def composed(model, *words, task=None):
        task = task or ("movies" if model.startswith("hf:") else "cifar")
        if task != "movies":
            words = ["train.image_size=32", *words]
        paths = [f"runs_dir={tmp_path}/runs", f"data_dir={tmp_path}/data"]
        return config.load([f"task={task}", f"model={model}", *SHORT, *paths, *words])

    return composed


def model_of(choice, task="cifar"):
    return config.load([f"task={task}", f"model={choice}"]).spec.model


def one_line(refusal):
    line = str(refusal.value)
    assert "\n" not in line
    return line


# What the configuration says


def test_folder_of_timm_describes_its_network(networks):
    model = model_of(f"timm:{networks}/resnet")
    assert (model.name, model.arch) == ("timm:resnet", "test_resnet")
    assert model.mean == pytest.approx([255 * value for value in copies.MEAN])
    assert model.std == pytest.approx([255 * value for value in copies.STD])
    assert (model.interpolation, model.crop_pct) == ("bicubic", 0.8)
    assert model.weights.files == ["config.json", "model.safetensors"]
    assert str(networks) not in json.dumps(model.scientific)  # wherever it lies, it is the same


def test_name_of_timm_is_the_hubs_repository_with_timms_description():
    model, published = model_of("timm:resnet50"), timm.get_pretrained_cfg("resnet50")
    assert model.name == "timm:resnet50.a1_in1k" and model.arch == "resnet50.a1_in1k"
    assert model.weights.hub.repository == published.hf_hub_id and model.weights.path is None
    assert model.mean == pytest.approx([255 * value for value in published.mean])
    assert (model.interpolation, model.crop_pct) == (published.interpolation, published.crop_pct)
    assert model_of("timm:resnet50.a1_in1k").scientific == model.scientific


def test_network_of_one_size_is_made_for_the_size_of_the_images():
    assert model_of("timm:vit_base_patch16_224").arguments == {"img_size": 64}
    assert model_of("timm:resnet18").arguments == {}


def test_file_needs_the_name_of_its_network(networks):
    model = model_of(f"timm:test_resnet@{networks}/best [1].pth.tar")
    assert (model.name, model.arch) == ("timm:test_resnet@best [1].pth.tar", "test_resnet")
    with pytest.raises(UserError, match="does not say which network: timm:NAME@") as refusal:
        model_of(f"timm:{networks}/best [1].pth.tar")
    one_line(refusal)


def test_folder_and_name_of_transformers(networks):
    local, named = (model_of(f"hf:{name}", "movies") for name in (networks / "bert", "a/b-c.d"))
    assert (local.name, local.arch) == ("hf:bert", "bert")
    assert local.weights.files == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert named.name == "hf:a/b-c.d" and named.weights.hub.repository == "a/b-c.d"


@pytest.mark.parametrize(
    "name", ["bpe.codes", "dict.txt", "entity_vocab.json", "source.spm", "spiece.model"]
)
def test_what_any_tokenizer_of_transformers_reads_is_read(networks, tmp_path, name):
    shutil.copytree(networks / "bert", tmp_path / "bert")
    (tmp_path / "bert" / name).write_text("")
    assert name in model_of(f"hf:{tmp_path}/bert", "movies").weights.files


def test_weights_beside_those_that_transformers_reads_do_not_count(networks, load, tmp_path):
    copy = tmp_path / "bert"
    shutil.copytree(networks / "bert", copy)
    (copy / "model.safetensors").rename(copy / "model_quantized.safetensors")
    weights = load_file(copy / "model_quantized.safetensors")
    torch.save(weights, copy / "pytorch_model.bin")
    assert "model_quantized.safetensors" not in model_of(f"hf:{copy}", "movies").weights.files
    first = Job.of(load(f"hf:{copy}")).spec.run_id
    torch.save({name: weights[name] + 1 for name in weights}, copy / "pytorch_model.bin")
    assert Job.of(load(f"hf:{copy}")).spec.run_id != first


@pytest.mark.parametrize("words", [["+opt.nesterov=true"], ["model.batch_norm=train"]], ids=str)
def test_other_words_hold_beside_the_network(networks, words):
    with_words = config.load([f"model=timm:{networks}/resnet", "opt=sgd", *words]).spec
    assert with_words.model.mean == model_of(f"timm:{networks}/resnet").mean
    assert config.opt_changes(with_words) == ({"nesterov": True} if "opt" in words[0] else {})
    assert with_words.model.batch_norm == ("frozen" if "opt" in words[0] else "train")


@pytest.mark.parametrize("name", ["größe, (1)=b", "it's a%20b"])
def test_folder_may_have_any_name_here_and_in_a_multirun(networks, name, tmp_path):
    shutil.copytree(networks / "resnet", tmp_path / name)
    choice = f"timm:{tmp_path}/{name}"
    assert model_of(choice).name == f"timm:{name}"
    (word,) = config.for_hydra([config.typed.quoted(f"model={choice}")])
    assert config.load([word]).spec.model.name == f"timm:{name}"


def test_multirun_goes_over_networks(networks):
    word = f"model=timm:{networks}/resnet,timm:{networks}/vit,squeezenet"
    config.check_names([word])
    (word,) = config.for_hydra([word])
    key, _, names = word.partition("=")
    found = [config.load([f"{key}={name}"]).spec.model.name for name in names.split(",")]
    assert found == ["timm:resnet", "timm:vit", "squeezenet"]


# What is refused


@pytest.mark.parametrize(
    ("choice", "task", "said"),
    [
        ("timm:resnt50", "cifar", "timm has no network resnt50: did you mean resnet50"),
        ("timm:resnet50.a9_in1k", "cifar", "did you mean resnet50.ra_in1k"),
        ("timm:resnt50@FOLDER/best [1].pth.tar", "cifar", "did you mean resnet50"),
        ("timm:test_resnet@FOLDER/none.pth", "cifar", "there is no file FOLDER/none.pth"),
        ("timm:FOLDER/none", "cifar", "there is no FOLDER/none/config.json, as timm writes it"),
        (
            "timm:FOLDER/bert",
            "cifar",
            "is of transformers: for tasks of texts, say model=hf:FOLDER/",
        ),
        ("hf:FOLDER/resnet", "movies", "is of timm: for tasks of images, say model=timm:FOLDER"),
        ("hf:./none", "movies", "none/config.json, as transformers writes it"),
        ("hf:a/b/c", "movies", "b/c/config.json, as transformers writes it"),
        ("hf:FOLDER/bert", "cifar", "model=hf:bert is for language tasks, and task=cifar is a"),
        ("timm:FOLDER/vit", "movies", "model=timm:vit is for vision tasks, and task=movies is a"),
        ("timm:gcvit_tiny", "cifar", "the hub has no weights of timm's gcvit_tiny: choose another"),
        ("FOLDER/bert", "movies", "bert: a network of your own is timm:NAME, timm:"),
        ("hf:", "movies", "names no network: say timm:NAME"),
    ],
)
def test_what_is_no_network_is_one_line_with_what_to_do(networks, choice, task, said):
    with pytest.raises(UserError) as refusal:
        model_of(choice.replace("FOLDER", str(networks)), task)
    assert said.replace("FOLDER", str(networks)) in one_line(refusal)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda copy: (copy / "model.safetensors").unlink(), "holds no model.safetensors or "),
        (lambda copy: (copy / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda copy: (copy / "config.json").write_text("{}"), "names no network of timm"),
        (lambda copy: edit(copy, in_chans=1), "takes no images of 3 channels"),
    ],
    ids=["no weights", "half a configuration", "none", "one channel"],
)
def test_folder_that_is_not_whole_is_one_line(networks, tmp_path, change, said):
    shutil.copytree(networks / "resnet", tmp_path / "copy")
    change(tmp_path / "copy")
    with pytest.raises(UserError) as refusal:
        model_of(f"timm:{tmp_path}/copy")
    assert said in one_line(refusal)


def edit(copy, **arguments):
    """Change arguments of the network in the folder's configuration."""
    described = json.loads((copy / "config.json").read_text())
    described["model_args"] |= arguments
    (copy / "config.json").write_text(json.dumps(described))


class Opens:
    """What a pickle of it does when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickle_that_holds_more_than_weights_is_refused_and_not_run(networks, load, tmp_path):
    weights = timm.create_model("test_resnet").state_dict()
    torch.save({"state_dict": weights, "x": Opens(tmp_path / "ran")}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match=r"does not hold the weights of test_resnet") as refusal:
        build_task(load(f"timm:test_resnet@{tmp_path}/bad.pth")).network()
    assert "weights_only" in one_line(refusal) and not (tmp_path / "ran").exists()


def test_weights_of_another_network_say_what_does_not_fit(networks, load):
    with pytest.raises(UserError, match=r"weights of test_efficientnet \(") as refusal:
        build_task(load(f"timm:test_efficientnet@{networks}/best [1].pth.tar")).network()
    assert "give a whole copy" in one_line(refusal)


def test_network_that_no_other_size_fits_says_its_own(tmp_path):
    weights = timm.create_model("resmlp_12_224").state_dict()
    torch.save(weights, tmp_path / "mlp.pth")
    with pytest.raises(UserError, match=r"resmlp_12_224 .* say train\.image_size=224") as refusal:
        timm_from_file("resmlp_12_224", tmp_path / "mlp.pth", {"img_size": 32})
    one_line(refusal)


def test_size_of_images_that_a_network_does_not_take_is_said_before_training(networks, load):
    with pytest.raises(UserError, match=r"no images of 24 .* say train\.image_size=160") as refusal:
        build_task(load(f"timm:{networks}/vit", "train.image_size=24")).network()
    one_line(refusal)


def test_network_of_transformers_without_a_head_for_texts_is_one_line(networks, load, tmp_path):
    other = networks / "images_of_transformers"
    with pytest.raises(UserError, match="does not hold the weights of vit") as refusal:
        shutil.copytree(networks / "bert", tmp_path / "copy")
        for name in ("config.json", "model.safetensors"):
            shutil.copy(other / name, tmp_path / "copy" / name)
        build_task(load(f"hf:{tmp_path}/copy")).network()
    one_line(refusal)


# Weights, heads and lengths


@pytest.mark.parametrize("source", ["resnet", "vit", "file"])
def test_weights_of_timm_are_its_own_and_the_head_is_new(networks, load, source):
    choice = (
        "test_resnet@" + f"{networks}/best [1].pth.tar" if source == "file" else networks / source
    )
    task = build_task(load(f"timm:{choice}", "train.image_size=160"))
    network = task.network()
    arch = "test_vit" if source == "vit" else "test_resnet"
    torch.manual_seed(0)
    written = timm.create_model("test_resnet", num_classes=3)
    if source == "vit":
        written = timm.create_model("test_vit", num_classes=5)
    head = f"{timm.get_pretrained_cfg(arch).classifier}."
    found, expected = network.state_dict(), written.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[k], expected[k]) for k in found if not k.startswith(head))
    assert found[f"{head}weight"].shape[0] == 10


def test_network_of_one_size_sees_images_of_another(networks, load):
    task = build_task(load(f"timm:{networks}/vit"))
    images, _ = task.batch("test", torch.arange(3))
    assert images.shape == (3, 3, 32, 32) and task.forward(task.network(), images).shape == (3, 10)


def test_images_are_resized_by_the_networks_interpolation_and_normalised_by_its_statistics(
    networks, load
):
    batch, _ = build_task(load(f"timm:{networks}/resnet")).batch("test", torch.arange(1))
    index = build_task(load(f"timm:{networks}/resnet")).splits["test"].inputs[:1]
    image = torch.from_numpy(index).permute(0, 3, 1, 2).float() / 255
    big = torch.nn.functional.interpolate(image, (32, 32), mode="bicubic", antialias=True)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (copies.MEAN, copies.STD))
    torch.testing.assert_close(batch, (big - mean) / std, atol=1e-4, rtol=1e-4)


def test_weights_of_transformers_are_its_own_and_the_head_is_new_of_as_many_classes(networks, load):
    network = build_task(load(f"hf:{networks}/bert")).network()
    written = load_file(networks / "bert/model.safetensors")
    assert network.classifier.weight.shape == written["classifier.weight"].shape
    assert not torch.equal(network.classifier.weight, written["classifier.weight"])
    found = network.state_dict()
    assert all(torch.equal(found[k], written[k]) for k in written if k.startswith("bert."))


def test_length_is_at_most_what_the_network_takes(networks, load):
    lengths = [
        build_task(load(f"hf:{networks}/{name}", f"train.max_tokens={length}")).max_tokens
        for name, length in (("bert", 32), ("bert", 8), ("no_length", 32))
    ]
    assert lengths == [12, 8, 12]  # of the last: of 14 positions


def test_network_without_a_padding_token_is_trained(networks, load):
    task = build_task(load(f"hf:{networks}/gpt2"))
    inputs, _ = task.batch("train", torch.arange(4))
    network = task.network()
    assert network.config.pad_token_id == task.tokenizer.pad_token_id == 1
    assert task.forward(network, inputs).shape == (4, 2)


def test_code_beside_the_weights_is_never_run(networks, load, tmp_path, monkeypatch):
    shutil.copytree(networks / "bert", tmp_path / "copy")
    described = json.loads((tmp_path / "copy/config.json").read_text())
    described |= {"auto_map": {"AutoConfig": "code.C"}, "model_type": "unheard_of"}
    (tmp_path / "copy/config.json").write_text(json.dumps(described))
    (tmp_path / "copy/code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass C: pass")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(UserError) as refusal:
        build_task(load(f"hf:{tmp_path}/copy"))
    assert "does not hold" in one_line(refusal) and not (tmp_path / "ran").exists()


def test_adapter_beside_the_weights_is_refused_as_it_would_be_trained_alone(
    networks, load, tmp_path
):
    shutil.copytree(networks / "bert", tmp_path / "bert")
    (tmp_path / "bert" / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds an adapter: .*merge_and_unload"):
        build_task(load(f"hf:{tmp_path}/bert")).network()


def test_configuration_that_names_another_file_of_weights_is_refused(networks, load, tmp_path):
    shutil.copytree(networks / "bert", tmp_path / "bert")
    described = json.loads((tmp_path / "bert/config.json").read_text())
    described["transformers_weights"] = "other.safetensors"
    (tmp_path / "bert/config.json").write_text(json.dumps(described))
    shutil.copy(tmp_path / "bert/model.safetensors", tmp_path / "bert/other.safetensors")
    with pytest.raises(UserError, match="take that line out") as refusal:
        build_task(load(f"hf:{tmp_path}/bert")).network()
    one_line(refusal)


def test_file_of_another_name_than_is_read_is_refused(networks, tmp_path):
    shutil.copytree(networks / "bert", tmp_path / "bert")
    other = tmp_path / "bert" / "finetuned.bin"
    other.write_bytes(b"")
    weights = config.load(["task=movies", "model=roberta_base", f"model.weights.path={other}"])
    with pytest.raises(UserError, match="give the folder, or a file named "):
        copy_of(weights.spec.model.weights, tmp_path)


# Records


@pytest.mark.parametrize("choice", ["timm:FOLDER/resnet", "hf:FOLDER/bert"])
def test_record_tells_the_weights_and_a_folder_that_changes_is_another_network(
    networks, load, choice, tmp_path
):
    library, _, name = choice.partition(":FOLDER/")
    shutil.copytree(networks / name, tmp_path / name)
    own = f"{library}:{tmp_path / name}"
    first, moved = Job.of(load(own)), Job.of(load(choice.replace("FOLDER", str(networks))))
    assert first.spec.run_id == moved.spec.run_id
    record = run(load(own))
    assert record.run_id == first.spec.run_id and record.status == "finished"
    assert record.fingerprints["weights_revision"] == "local copy"
    assert record.settings["model"]["name"] == f"{library}:{name}"
    (tmp_path / name / "notes.txt").write_text("not read")
    assert Job.of(load(own)).spec.run_id == first.spec.run_id
    weights = load_file(tmp_path / name / "model.safetensors")
    key = min(weights)
    save_file({**weights, key: weights[key] + 1}, tmp_path / name / "model.safetensors")
    second = Job.of(load(own)).spec
    assert second.run_id != first.spec.run_id and second.problem_id == first.spec.problem_id
    described = json.loads((tmp_path / name / "config.json").read_text())
    (tmp_path / name / "config.json").write_text(json.dumps({**described, "comment": 1}))
    assert Job.of(load(own)).spec.run_id not in (first.spec.run_id, second.run_id)
    shutil.copytree(networks / name, tmp_path / "other" / name)
    (tmp_path / "other" / name / "config.json").write_text(json.dumps({**described, "comment": 1}))
    same = build_task(load(choice.replace("FOLDER", str(networks))))
    other = build_task(load(f"{library}:{tmp_path}/other/{name}"))
    assert data_id(same.fingerprints()) == record.data_id != data_id(other.fingerprints())


def test_probe_takes_the_features_of_any_network(networks, load):
    probe = build_task(load(f"timm:{networks}/resnet", task="probe_cifar"))
    assert probe.features_of["test"].shape == (20, 96)
    assert np.ptp(probe.features_of["test"].numpy(), axis=0).max() > 0


# The hub


@pytest.fixture
def hub(networks, monkeypatch, tmp_path):
    """A hub with one repository, of transformers and with a pickle alone; what was fetched."""
    source = tmp_path / "repository"
    shutil.copytree(networks / "bert", source)
    weights = source / "model.safetensors"
    torch.save(load_file(weights), source / "pytorch_model.bin")
    weights.unlink()
    (source / "flax_model.msgpack").write_text("not wanted")
    fetched = []

    def repo_info(self, repository, repo_type, revision=None):
        names = [SimpleNamespace(rfilename=path.name) for path in source.iterdir()]
        return SimpleNamespace(sha="c" * 40, siblings=names)

    def snapshot_download(repository, local_files_only=False, local_dir=None, **options):
        if local_files_only:
            raise LocalEntryNotFoundError("not there")
        local_dir.mkdir(parents=True, exist_ok=True)
        for name in options["allow_patterns"]:
            shutil.copy(source / name, local_dir / name)
            fetched.append(name)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", repo_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return fetched


def test_name_of_transformers_is_fetched_with_what_its_repository_has(networks, load, hub):
    record = run(load("hf:somebody/small"))
    assert record.fingerprints["weights_revision"] == f"somebody/small@{'c' * 40}"
    assert sorted(hub) == [
        "config.json", "pytorch_model.bin", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    network = build_task(load("hf:somebody/small")).network()
    written = load_file(networks / "bert/model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(network.state_dict()[name], written[name])


@pytest.mark.parametrize("choice", ["timm:resnet50", "hf:a/b"])
def test_hub_out_of_reach_is_one_line_with_what_to_do(load, choice, monkeypatch, tmp_path):
    def unreachable(*_, **__):
        raise httpx.ConnectError("[Errno -2] Name or service not known")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", unreachable)
    with pytest.raises(UserError, match=r"cannot be fetched .* check the network, or") as refusal:
        run(load(choice))
    assert "say model.weights.path=FOLDER" in one_line(refusal)
    assert not list(tmp_path.glob("runs/*/*"))


def test_copy_of_a_networks_repository_is_taken_by_its_path(networks, load):
    model = load("hf:a/b", f"model.weights.path={networks}/bert").spec.model
    assert model.name == "hf:a/b" and model.weights.path == f"{networks}/bert"
    build_task(load("hf:a/b", f"model.weights.path={networks}/bert")).network()


def test_synthetic_problems_need_no_files_of_the_network(load):
    for choice in ("timm:resnet50", "hf:a/b"):
        loaded = load(choice, "task.synthetic=true")
        assert build_task(loaded).network() is not None
    assert own_models.is_own(choice)
