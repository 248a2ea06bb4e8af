"""The networks: library architectures, with pretrained weights from wherever these can be had.

A builder takes the model's configuration, the number of outputs (0: no head, features come out),
the folder of data and weights, and whether the weights are made up (a synthetic task's).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object
from torch import Tensor, nn

from tasks.errors import UserError
from tasks.hub import copy_of
from tasks.readers import read_numpy_pickle
from tasks.sources import fetch, source_from

Config = Mapping[str, Any]


def timm_network(model: Config, outputs: int, data_dir: Path, synthetic: bool) -> nn.Module:
    """Build a timm network ``model.arch``; its weights file must hold the same tensors in order."""
    import timm

    network: Any = timm.create_model(model["synthetic_arch" if synthetic else "arch"])
    if not synthetic:
        path = _weights(model, data_dir)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        head = {f"{module}." for module in _as_list(network.default_cfg["classifier"])}
        _load_in_order(network, list(tensors.values()), head, path)
    # A head made now has torch's own initial weights; one made by create_model would have those
    # of training from scratch, eleven times larger here, from which fine-tuning is slow to start.
    network.reset_classifier(outputs)
    return network


def timm_hub_network(model: Config, outputs: int, data_dir: Path, synthetic: bool) -> nn.Module:
    """Build the timm network with the weights that the hub has under its tag ``model.arch``.

    A synthetic one is made by the callable and the arguments in ``model.synthetic_arch``.
    """
    if synthetic:
        arguments = dict(model["synthetic_arch"])
        network = get_object(arguments.pop("_target_"))(**arguments)
    else:
        weights = model["weights"]
        (name,) = weights["hub"]["files"]
        path = copy_of(weights, "model", data_dir).folder / name
        network = timm_from_file(model["arch"], path, model.get("arguments", {}))
    network.reset_classifier(outputs)  # as above
    return network


def timm_from_file(arch: str, path: Path, arguments: Config) -> Any:
    """Build timm's ``arch`` and load its weights from a file as the hub has it, by timm's code.

    Raises UserError if the file holds the weights of another network.
    """
    import timm

    # Some tags are first of all for files of other libraries (custom_load): the hub has timm's own.
    source = {"file": str(path), "custom_load": False}
    try:
        return timm.create_model(arch, pretrained=True, pretrained_cfg_overlay=source, **arguments)
    except Exception as error:  # what is no weights file makes the libraries raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path} does not hold the weights of {arch} ({reason}): give a whole copy, or delete "
            "it and run the same command again"
        ) from error


def squeezenet(model: Config, outputs: int, data_dir: Path, synthetic: bool) -> nn.Module:
    """Build SqueezeNet 1.1, which has no batch normalization; its head is a 1×1 convolution."""
    from torchvision.models import squeezenet1_1

    network = squeezenet1_1(num_classes=max(outputs, 1))
    if not outputs:
        network.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1))
    if synthetic:
        return network
    path = _weights(model, data_dir)
    layers = read_numpy_pickle(path)  # conv1, fire2/squeeze1x1, ..., conv10, in no such order
    names = sorted(layers, key=lambda name: int(re.sub(r"\D", "", name.split("/")[0])))
    tensors = [torch.from_numpy(array) for name in names for array in layers[name]]
    tensors = [t.permute(3, 2, 0, 1) if t.ndim == 4 else t for t in tensors]  # HWIO to OIHW
    return _load_in_order(network, tensors, {"classifier."}, path)


def transformers_network(model: Config, outputs: int, data_dir: Path, synthetic: bool) -> nn.Module:
    """Build a transformers encoder: with a classification head, or bare."""
    from transformers import AutoModel, AutoModelForSequenceClassification, BertConfig
    from transformers.utils import logging

    logging.set_verbosity_error()  # a new head is what we want, no reason for a warning
    logging.disable_progress_bar()
    auto: Any = AutoModelForSequenceClassification if outputs else AutoModel
    head: dict[str, Any] = {"num_labels": outputs} if outputs else {}
    if synthetic:
        sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32}
        config = BertConfig(
            vocab_size=256, num_hidden_layers=2, num_attention_heads=2, **sizes, **head
        )
        network = auto.from_config(config)
    else:
        network = auto.from_pretrained(_weights(model, data_dir), dtype=torch.float32, **head)
    if model["freeze_embeddings"]:
        network.get_input_embeddings().requires_grad_(False)
    return network


def transformers_tokenizer(model: Config, data_dir: Path, synthetic: bool) -> Any:
    """Return the network's tokenizer; a synthetic one knows the words that synthetic tasks use."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if not synthetic:
        return AutoTokenizer.from_pretrained(_weights(model, data_dir))
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[PAD]": 0, "[UNK]": 1} | {f"word{i}": i + 2 for i in range(200)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]")


def _weights(model: Config, data_dir: Path) -> Path:
    weights = model["weights"]
    return fetch(source_from(weights["source"]), data_dir) / weights["file"]


def _load_in_order(
    network: nn.Module, tensors: list[Tensor], head: set[str], path: Path
) -> nn.Module:
    """Copy tensors into the network one by one: the files name them otherwise than the library.

    Surplus tensors at the end are the head of pretraining. Every shape must agree.
    """
    own = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not any(name.startswith(prefix) for prefix in head)
    }
    shapes = [tuple(tensor.shape) for tensor in own.values()]
    if shapes != [tuple(tensor.shape) for tensor in tensors[: len(shapes)]]:
        raise UserError(f"{path.name} does not hold the weights of this network: fetch it anew")
    for mine, theirs in zip(own.values(), tensors, strict=False):
        mine.copy_(theirs)
    return network


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
