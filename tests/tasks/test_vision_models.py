"""The paper's vision networks: weights from local copies of the hub's files, and WRN-28-10."""

import os
import shutil

import numpy as np
import pytest
import timm
import torch
from conftest import with_changes
from image_copies import write_dtd
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn

from runner import config
from runner.run import build_task, run
from tasks import convex
from tasks.convex import Probe
from tasks.data import cache
from tasks.data.hub import fetched_folder
from tasks.data.storage import seal
from tasks.errors import UserError
from tasks.models import timm_from_file, timm_hub_network
from tasks.vision import ImageClassification
from tasks.wide_resnet import Block, WideResNet, wide_resnet

HUB = ("vgg11", "resnet50", "densenet121", "vit_b32", "convnext_tiny", "clip_vit_b32")
# Smaller ones of the same kind, for the same code.
SMALL = {
    "vgg11": {"mlp_ratio": 0.01},
    "resnet50": {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]},
    "densenet121": {"growth_rate": 4, "block_config": [1, 1, 1, 1]},
    "vit_b32": {"embed_dim": 32, "depth": 2, "num_heads": 2, "dynamic_img_size": True},
    "convnext_tiny": {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]},
}
CLIP = SMALL["vit_b32"]


def yaml(name):
    return OmegaConf.load(config.CONFIGS / f"model/{name}.yaml")


def spec_of(name, *words):
    return config.load(["task=cifar100", f"model={name}", *words]).spec.model


def saved(network, folder, name="model"):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    save_file(tensors, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


@pytest.mark.parametrize("name", HUB)
def test_the_yaml_says_what_timm_says_of_the_weights(name):
    model, published = yaml(name), timm.get_pretrained_cfg(yaml(name).arch)
    assert model.weights.hub.repository == published.hf_hub_id == f"timm/{model.arch}"
    assert model.mean == pytest.approx([255 * value for value in published.mean], abs=1e-3)
    assert model.std == pytest.approx([255 * value for value in published.std], abs=1e-3)
    if name == "clip_vit_b32":
        published_eval = (published.interpolation, published.crop_pct)
        assert (model.interpolation, model.crop_pct) == published_eval


@pytest.mark.parametrize("name", HUB)
def test_only_networks_with_batch_norm_have_its_option(name):
    loaded = config.load(["task=cifar100", f"model={name}", "task.synthetic=true"])
    network = build_task(loaded).network()
    has = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert (
        (loaded.spec.model.batch_norm is not None) == has == (name in ("resnet50", "densenet121"))
    )


@pytest.mark.parametrize("name", SMALL)
def test_weights_are_those_of_the_file(name, tmp_path):
    tag = yaml(name).arch
    torch.manual_seed(1)
    original = timm.create_model(tag, **SMALL[name])
    network = timm_from_file(tag, saved(original, tmp_path), SMALL[name])
    loaded = network.state_dict()
    for key, tensor in original.state_dict().items():
        assert torch.equal(loaded[key], tensor), key


def test_clips_image_tower_is_taken_out_of_the_whole(tmp_path):
    torch.manual_seed(1)
    width, depth = CLIP["embed_dim"], CLIP["depth"]
    clip = {
        "visual.class_embedding": torch.randn(width),
        "visual.positional_embedding": torch.randn(50, width),
        "visual.conv1.weight": torch.randn(width, 3, 32, 32),
        "visual.proj": torch.randn(width, 512),
        "logit_scale": torch.ones(()),
        "token_embedding.weight": torch.randn(10, 4),
        "transformer.resblocks.0.ln_1.weight": torch.ones(4),
    }
    layers = {"attn.in_proj_": (3 * width, width), "attn.out_proj.": (width, width)}
    layers |= {"mlp.c_fc.": (4 * width, width), "mlp.c_proj.": (width, 4 * width)}
    for block in (f"visual.transformer.resblocks.{i}." for i in range(depth)):
        for layer, shape in layers.items():
            clip[f"{block}{layer}weight"] = torch.randn(shape)
            clip[f"{block}{layer}bias"] = torch.randn(shape[0])
    norms = [f"transformer.resblocks.{i}.ln_{j}" for i in range(depth) for j in (1, 2)]
    for norm in (*norms, "ln_pre", "ln_post"):
        clip[f"visual.{norm}.weight"] = torch.randn(width)
        clip[f"visual.{norm}.bias"] = torch.randn(width)
    save_file(clip, tmp_path / "open_clip_model.safetensors")
    tag = yaml("clip_vit_b32").arch
    network = timm_from_file(tag, tmp_path / "open_clip_model.safetensors", CLIP)
    own = network.state_dict()
    assert torch.equal(own["patch_embed.proj.weight"], clip["visual.conv1.weight"])
    assert torch.equal(own["pos_embed"][0], clip["visual.positional_embedding"])
    last = f"visual.transformer.resblocks.{depth - 1}.mlp.c_proj.weight"
    assert torch.equal(own[f"blocks.{depth - 1}.mlp.fc2.weight"], clip[last])
    assert torch.equal(own["head.weight"], clip["visual.proj"].T)


def from_copy(name, folder, outputs=0, arguments=None):
    """The network of a model's yaml, made smaller, with the weights in the user's folder."""
    model = spec_of(name, f"model.weights.path={folder}")
    model = model.replaced(arguments=SMALL[name] if arguments is None else arguments)
    return timm_hub_network(model, outputs, folder, synthetic=False)


@pytest.mark.parametrize("name", SMALL)
def test_a_copy_whose_head_has_other_classes_is_taken_without_its_head(name, tmp_path):
    torch.manual_seed(1)
    original = timm.create_model(yaml(name).arch, num_classes=7, **SMALL[name])
    saved(original, tmp_path)
    network = from_copy(name, tmp_path, outputs=3)
    head = timm.get_pretrained_cfg(yaml(name).arch).classifier
    for key, tensor in network.state_dict().items():
        if not key.startswith(f"{head}."):
            assert torch.equal(original.state_dict()[key], tensor), key
    assert network.get_submodule(head).weight.shape[0] == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"channels": [8, 8, 8, 16]},
            r"layer4\.0\.conv1\.weight is \[16, .* there and \[8, .* here",
        ),
        ({"layers": [1, 1, 1, 2]}, r"layer4\.1\.\S+ is in no such network"),
        ({"layers": [1, 1, 0, 1]}, r"layer3\.0\.\S+ is missing"),
    ],
    ids=["another size", "too many", "too few"],
)
def test_a_copy_that_does_not_fit_says_what_does_not_and_which_setting_would(
    change, said, tmp_path
):
    saved(timm.create_model("resnet50", **{**SMALL["resnet50"], **change}), tmp_path)
    with pytest.raises(UserError, match=rf"weights of resnet50\.a1_in1k \({said}") as refusal:
        from_copy("resnet50", tmp_path)
    line = str(refusal.value)
    assert "\n" not in line and "delete" not in line and str(tmp_path) in line
    assert "model=..." in line and "model.weights.path=FOLDER" in line


def test_only_fetched_weights_may_be_deleted(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"no such file")
    with pytest.raises(UserError) as own:
        from_copy("resnet50", tmp_path)
    assert "delete" not in str(own.value) and "\n" not in str(own.value)
    model = spec_of("resnet50")
    fetched = fetched_folder(model.weights, tmp_path)
    saved(timm.create_model("resnet50", **SMALL["resnet50"]), fetched)
    seal(fetched, revision="timm/resnet50.a1_in1k@0")
    with pytest.raises(UserError, match=f"delete {fetched}, which was fetched"):
        timm_hub_network(model, 3, tmp_path, synthetic=False)


# A whole run, from a copy of data and weights to a record


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder as the hub's repository of DenseNet-121: random weights of the real size."""
    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("weights")
    saved(timm.create_model("densenet121"), folder)
    return folder


def words(task, weights, tmp_path):
    choices = [f"task={task}", "model=densenet121", "protocol=paper", "opt=ldog"]
    data = "task.source.data.path" if task.startswith("probe") else "task.data.path"
    paths = [f"{data}={tmp_path}/copy", f"model.weights.path={weights}", f"data_dir={tmp_path}/d"]
    short = ["train.image_size=32", "train.batch_size=4", "train.steps=3", "progress=false"]
    return [*choices, *paths, *short, "wandb.mode=disabled", f"runs_dir={tmp_path}/runs"]


def loaded(task, weights, tmp_path):
    made = config.load(words(task, weights, tmp_path))
    data = "task.source.data" if task.startswith("probe") else "task.data"
    counts = dict(zip(("train", "validation", "test"), COUNTS, strict=True))
    return with_changes(made, {f"{data}.examples": counts})


COUNTS = (6, 4, 5)  # of the copy


def test_a_copy_of_data_and_weights_becomes_a_record(weights, tmp_path):
    assert write_dtd(tmp_path / "copy") == COUNTS
    record = run(loaded("dtd", weights, tmp_path)).plain()
    assert record["status"] == "finished"
    assert record["results"]["test"]["examples"] == 5
    prints = record["fingerprints"]
    assert prints["data_revision"] == prints["weights_revision"] == "local copy"
    assert len(prints["weights"]) == len(prints["train"]) == 64


def test_a_probes_features_are_the_networks_and_are_computed_once(weights, tmp_path, monkeypatch):
    write_dtd(tmp_path / "copy")
    probe = build_task(loaded("probe_dtd", weights, tmp_path))
    assert isinstance(probe, Probe)
    network = probe.source.backbone().eval()
    images, _ = probe.source.batch("test", torch.arange(5))
    with torch.no_grad():
        expected = network(images)
    torch.testing.assert_close(probe.features_of["test"], expected)
    assert probe.features_of["train"].shape == (6, 1024)
    files = sorted(file.name for file in (tmp_path / "d/features").rglob("*.npy"))
    assert files == ["test.npy", "train.npy", "validation.npy"]
    monkeypatch.setattr(Probe, "_computed", lambda *_: pytest.fail("computed again"))
    again = build_task(loaded("probe_dtd", weights, tmp_path))
    assert torch.equal(again.features_of["train"], probe.features_of["train"])
    again.features_of["train"][0] = 0  # memory of this process alone: the files stay
    third = build_task(loaded("probe_dtd", weights, tmp_path))
    assert torch.equal(third.features_of["train"], probe.features_of["train"])


@pytest.fixture
def features_folder(weights, tmp_path, monkeypatch):
    """A function that returns the name under which a probe's features are kept, of such changes."""
    write_dtd(tmp_path / "copy")
    kept = []

    def cached_files(folder, write, purpose):
        kept.append(folder.name)
        return {}

    monkeypatch.setattr(convex, "cached_files", cached_files)

    def folder(**changes):
        made = loaded("probe_dtd", weights, tmp_path)
        build_task(
            with_changes(made, {key.replace("__", "."): value for key, value in changes.items()})
        )
        return kept[-1]

    return folder


FEATURES = {
    "model__interpolation": "bicubic",
    "model__crop_pct": 0.5,
    "model__arguments": {"global_pool": "max"},
    "model__target": "tasks.models.timm_network",
    "model__mean": [0.0, 0.0, 0.0],
    "train__augment": "timm",
    "train__image_size": 40,
    "train__max_tokens": 9,
    "task__source__prompt": "{}?",
    "task__source__target": "test_vision_models.Upside",
}
NO_FEATURES = {
    "model__batch_norm": "frozen",
    "train__steps": 9,
    "train__batch_size": 9,
    "train__precision": "bf16",
    "opt__lr": 0.5,
    "seed": 9,
}


class Upside(ImageClassification):
    """Images upside down."""


def test_features_are_kept_under_all_that_they_depend_on(features_folder, monkeypatch, tmp_path):
    first = features_folder()
    names = [features_folder(**{key: value}) for key, value in FEATURES.items()]
    assert len({first, *names}) == 1 + len(FEATURES)
    assert {features_folder(**{key: value}) for key, value in NO_FEATURES.items()} == {first}


@pytest.mark.parametrize(
    "package", ["torch", "torchvision", "timm", "transformers", "tokenizers", "pillow", "numpy"]
)
def test_other_versions_of_the_libraries_compute_features_of_their_own(
    features_folder, package, monkeypatch
):
    first, version = features_folder(), cache.installed_version
    monkeypatch.setattr(
        cache, "installed_version", lambda name: "0.0" if name == package else version(name)
    )
    assert features_folder() != first


def test_other_images_of_the_same_names_and_sizes_have_features_of_their_own(
    features_folder, tmp_path
):
    first = features_folder()
    file = next((tmp_path / "copy/dtd/dtd/images").rglob("*.jpg"))
    content, time = bytearray(file.read_bytes()), file.stat().st_mtime_ns
    content[-3] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(time, time))
    assert features_folder() != first


def test_another_tokenizer_beside_the_same_weights_has_features_of_its_own(
    weights, features_folder, tmp_path
):
    shutil.copytree(weights, tmp_path / "weights")
    files = ["model.safetensors", "*.json"]
    changes = {"model__weights__path": f"{tmp_path}/weights", "model__weights__hub__files": files}
    names = []
    for vocabulary in ("ab", "ba"):
        (tmp_path / "weights/tokenizer.json").write_text(vocabulary)
        names.append(features_folder(**changes))
    assert names[0] != names[1]


# WRN-28-10


def test_wrn_28_10_has_the_published_size():
    with torch.device("meta"):
        network = WideResNet(28, 10, 10)
    assert sum(parameter.numel() for parameter in network.parameters()) == 36_479_194
    assert sum(isinstance(module, Block) for module in network.modules()) == 12


def test_wide_resnets_halve_the_maps_twice_and_give_logits_or_features():
    network = WideResNet(16, 2, 7)
    shapes = []
    for block in network.blocks:
        block.register_forward_hook(lambda _, __, maps: shapes.append(tuple(maps.shape[1:])))
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert shapes == [(32, 32, 32)] * 2 + [(64, 16, 16)] * 2 + [(128, 8, 8)] * 2
    assert WideResNet(10, 1, 0)(torch.randn(2, 3, 32, 32)).shape == (2, 64)


def test_a_block_is_its_published_formula():
    torch.manual_seed(0)
    block = Block(4, 8, 2).eval()
    for norm in (block.norm1, block.norm2):
        nn.init.uniform_(norm.weight)
        nn.init.normal_(norm.bias)
    maps = torch.randn(2, 4, 8, 8)
    active = block.norm1(maps).relu()
    inner = block.norm2(block.convolution1(active)).relu()
    torch.testing.assert_close(block(maps), block.convolution2(inner) + block.shortcut(active))
    same = Block(4, 4, 1).eval()
    nn.init.zeros_(same.convolution2.weight)
    assert torch.equal(same(maps), maps)  # the identity beside nothing


def test_wide_resnets_begin_at_kaimings_scale():
    torch.manual_seed(0)
    convolution = WideResNet(10, 4, 10).blocks[1].convolution2  # 128 channels
    expected = np.sqrt(2 / (9 * convolution.out_channels))
    assert convolution.weight.std().item() == pytest.approx(expected, rel=0.02)
    with pytest.raises(ValueError, match="6 n"):
        WideResNet(12, 1, 10)


def test_the_yaml_of_wrn_28_10_builds_it(tmp_path):
    model = spec_of("wrn28_10")
    with torch.device("meta"):
        assert len(wide_resnet(model, 10, tmp_path, synthetic=False).blocks) == 12
    assert len(wide_resnet(model, 10, tmp_path, synthetic=True).blocks) == 3
