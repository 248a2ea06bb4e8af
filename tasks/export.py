"""Write a trained network in its library's own format: timm or transformers alone loads it."""

import copy
from pathlib import Path
from typing import Any

from torch import nn

from tasks.data.blocks import required
from tasks.data.storage import put_in_place, staging_folder
from tasks.errors import UserError
from tasks.language import TextTask
from tasks.task import Task
from tasks.vision import CENTRE, CROPPED, ImageClassification


def check(task: Task) -> None:
    """Refuse a task whose network no library loads from a folder.

    Raises:
        UserError: if it is neither timm's nor transformers'.
    """
    if not isinstance(task, TextTask) and not _is_timms(task):
        raise UserError(
            f"task={task.name} with model={task.model.name} trains no network of timm or "
            "transformers, whose formats are what export= writes: leave it out"
        )


def _is_timms(task: Task) -> bool:
    return isinstance(task, ImageClassification) and ".timm_" in (task.model.target or "")


def export(task: Task, network: nn.Module, folder: Path) -> None:
    """Write the network, and what turns inputs into its own, into a folder that appears whole.

    Args:
        task: what the network was trained on.
        network: the network as it is to be used, such as the averaged one.
        folder: replaced if it is there. timm.create_model("local-dir:FOLDER", pretrained=True), or
            the from_pretrained of transformers' classes, loads it.

    Raises:
        UserError: if neither library knows such a network.
    """
    check(task)
    write = _write_transformers if isinstance(task, TextTask) else _write_timm
    folder.parent.mkdir(parents=True, exist_ok=True)
    with staging_folder(folder) as staging:
        write(task, network, staging / "model")
        put_in_place(staging / "model", folder)


def _write_timm(task: Any, network: Any, folder: Path) -> None:
    from timm.models import save_for_hf

    model = task.model
    mean, std = required(model.mean, "model.mean"), required(model.std, "model.std")
    of_source: dict[str, Any] = {"tag": None}  # these are other weights now
    if model.weights and model.weights.path:
        of_source["license"] = None  # timm knows that of its own weights alone
    places = [tensor.data_ptr() for tensor in network.state_dict().values() if tensor.numel()]
    save_for_hf(
        network,
        str(folder),
        model_config={"label_names": list(task.classes), "pretrained_cfg": of_source},
        data_config={
            **_seen(task),
            "mean": tuple(value / 255 for value in mean),
            "std": tuple(value / 255 for value in std),
        },
        safe_serialization=len({*places}) == len(places),  # it holds no tensor by two names
    )


def _seen(task: ImageClassification) -> dict[str, Any]:
    """Return what of an image the network sees in evaluation, as timm says it."""
    size, augment = required(task.train.image_size, "train.image_size"), task.train.augment
    found: dict[str, Any] = {"img_size": size, "interpolation": task.interpolation}
    if augment == "timm":
        return found | {"crop_mode": "center", "crop_pct": task.model.crop_pct or CENTRE}
    if augment in CROPPED:
        return found | {"crop_mode": "center", "crop_pct": size / round(size / CENTRE)}
    return found | {"crop_mode": "squash", "crop_pct": 1.0}


def _write_transformers(task: Any, network: Any, folder: Path) -> None:
    if task.model.lora is not None:
        network = _merged(network)
    if task.head == "SequenceClassification" and task.classes:
        network.config.id2label = dict(enumerate(task.classes))
        network.config.label2id = {name: i for i, name in enumerate(task.classes)}
    network.save_pretrained(folder)
    tokenizer = copy.deepcopy(task.tokenizer)
    # truncation=True and padding=True do as in training, then.
    tokenizer.model_max_length, tokenizer.padding_side = task.max_tokens, "right"
    tokenizer.save_pretrained(folder)


def _merged(network: Any) -> Any:
    """Return a copy in which LoRA's matrices are added to the weights that they change."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    network = copy.deepcopy(network)
    layers = {n: m for n, m in network.named_modules() if isinstance(m, BaseTunerLayer)}
    for name, layer in layers.items():
        layer.merge()
        network.set_submodule(name, layer.get_base_layer())
    return network
