"""The networks: library architectures, with pretrained weights from wherever these can be had.

A builder takes what the model's yaml says, the number of outputs (0: no head, features come out),
the folder of data and weights, and whether the weights are made up (a synthetic task's).
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object
from torch import Tensor, nn

from tasks.data.blocks import required
from tasks.data.hub import copy_of, files_of, remedy
from tasks.data.pickles import read_numpy_pickle
from tasks.data.sources import fetch
from tasks.errors import UserError, one_line, reason
from tasks.specs import ModelSpec

# A synthetic language network's words, with their numbers as indices, and its sizes; each kind
# has some of these and passes over the others.
SYNTHETIC_WORDS = ["[PAD]", "[END]", "[UNK]", *(f"word{i}" for i in range(200))]
SYNTHETIC_WORDS += [f"{i / 5:.1f}" for i in range(26)]
SYNTHETIC_TOKENS = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
SYNTHETIC_SIZES: dict[str, Any] = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 32}
SYNTHETIC_SIZES |= {"num_hidden_layers": 2, "num_attention_heads": 2}
SYNTHETIC_SIZES |= {"num_decoder_layers": 2, "d_ff": 32, "d_kv": 16}
# A tokenizer that names a larger length names none.
LONGEST = 10**6


def timm_network(model: ModelSpec, outputs: int, data_dir: Path, synthetic: bool) -> nn.Module:
    """Build a timm network ``model.arch``; its weights file must hold the same tensors in order."""
    import timm

    arch: Any = model.synthetic_arch if synthetic else model.arch
    network: Any = timm.create_model(arch)
    if not synthetic:
        head = {f"{module}." for module in _as_list(network.default_cfg["classifier"])}
        with _weights(model, data_dir) as path:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
            _load_in_order(network, list(tensors.values()), head)
    # A head made now has torch's own initial weights; one made by create_model would have those
    # of training from scratch, eleven times larger here, from which fine-tuning is slow to start.
    network.reset_classifier(outputs)
    return network


def timm_hub_network(model: ModelSpec, outputs: int, data_dir: Path, synthetic: bool) -> nn.Module:
    """Build the timm network with the weights that the hub has under its tag ``model.arch``.

    A synthetic one is made by the callable and the arguments in ``model.synthetic_arch``.
    """
    if synthetic:
        arguments = model.synthetic_arguments
        network = get_object(arguments.pop("_target_"))(**arguments)
    else:
        arch, arguments = required(model.arch, "model.arch"), model.arguments or {}
        wanted = required(model.weights, "model.weights").wanted
        (pattern,) = (pattern for pattern in wanted if pattern != "config.json")
        with _weights(model, data_dir) as folder:
            (file,) = files_of(folder, pattern)
            network = timm_from_file(arch, file, arguments)
    network.reset_classifier(outputs)  # as above
    return network


def timm_from_file(arch: str, path: Path, arguments: Mapping[str, Any]) -> Any:
    """Build timm's ``arch`` and load its weights from a file as the hub has it, by timm's code.

    The head may be one of any number of classes. Raises what the libraries raise for another file.
    A pickle is read as weights alone: nothing in it is run.
    """
    import timm
    from timm.models import load_state_dict

    logging.getLogger("timm").setLevel(logging.WARNING)  # which file it reads is known

    published: Any = timm.get_pretrained_cfg(arch)
    if published is None:
        raise ValueError(f"timm {timm.__version__} has no network {arch}")
    # Some tags are first of all for files of other libraries (custom_load): the hub has timm's own.
    source: dict[str, Any] = {"file": str(path), "custom_load": False, "label_offset": 0}
    head = f"{_as_list(published.classifier)[0]}.weight"
    tensors = load_state_dict(str(path), weights_only=True)
    if head in tensors:
        source["num_classes"] = classes = len(tensors[head])
        arguments = {"num_classes": classes, **arguments}
    del tensors
    own = published.input_size[-1]
    if arguments.get("img_size") == own:
        arguments = {name: arguments[name] for name in arguments if name != "img_size"}
    try:
        return timm.create_model(arch, pretrained=True, pretrained_cfg_overlay=source, **arguments)
    except Exception as error:
        if "img_size" not in arguments:
            raise
        size = arguments["img_size"]
        raise UserError(
            f"{arch} is for images of {own} pixels a side, and cannot be made for {size} "
            f"({_misfit(error)}): say train.image_size={own}"
        ) from error


def squeezenet(model: ModelSpec, outputs: int, data_dir: Path, synthetic: bool) -> nn.Module:
    """Build SqueezeNet 1.1, which has no batch normalization; its head is a 1×1 convolution."""
    from torchvision.models import squeezenet1_1

    network = squeezenet1_1(num_classes=max(outputs, 1))
    if not outputs:
        network.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1))
    if synthetic:
        return network
    with _weights(model, data_dir) as path:
        layers = read_numpy_pickle(path)  # conv1, fire2/squeeze1x1, ..., conv10, in no such order
        names = sorted(layers, key=lambda name: int(re.sub(r"\D", "", name.split("/")[0])))
        tensors = [torch.from_numpy(array) for name in names for array in layers[name]]
        tensors = [t.permute(3, 2, 0, 1) if t.ndim == 4 else t for t in tensors]  # HWIO to OIHW
        return _load_in_order(network, tensors, {"classifier."})


def transformers_network(
    model: ModelSpec,
    outputs: int,
    data_dir: Path,
    synthetic: bool,
    head: str = "SequenceClassification",
) -> nn.Module:
    """Build a transformers network: with a head (AutoModelFor...), or the bare encoder.

    Raises UserError if the folder holds another kind of network, or not all of its weights.
    """
    import transformers
    from transformers.utils import logging as verbosity

    verbosity.set_verbosity_error()  # what is missing is looked at below
    verbosity.disable_progress_bar()
    auto: Any = getattr(transformers, f"AutoModelFor{head if outputs else 'TextEncoding'}")
    kind: Any = model.synthetic_arch  # transformers' name of it; a stand-in for the user's own
    labels: dict[str, Any] = {"num_labels": outputs} if outputs else {}
    if synthetic:
        config = transformers.AutoConfig.for_model(
            kind, **SYNTHETIC_SIZES, **SYNTHETIC_TOKENS, **labels
        )
        network = auto.from_config(config)
    else:
        with _weights(model, data_dir) as folder:
            if (folder / "adapter_config.json").exists():  # the library would train that alone
                raise UserError(
                    f"{folder} holds an adapter: give a folder without it, or merge it into the "
                    "weights (merge_and_unload() of peft) and save these"
                )
            # Code that lies beside the weights is never run.
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            if file := getattr(config, "transformers_weights", None):  # is read in place of ours
                raise UserError(
                    f"{folder}/config.json says transformers_weights={file}: take that line out, "
                    "and name the file model.safetensors"
                )
            there = config.model_type
            if there != kind and not model.is_own:
                raise ValueError(f"its kind is {there}, that of {model.name} is another")
            network, report = auto.from_pretrained(
                folder,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # the library's error would not say which
                **labels,
            )
            bad = dict.fromkeys(report["missing_keys"], "is missing")
            for name, there, here in report["mismatched_keys"]:
                bad[name] = f"is {list(there)} there and {list(here)} by its config.json"
            lost = sorted(name for name in bad if not _is_new(network, name))
            if lost:
                raise ValueError(
                    f"{len(lost)} of its weights are missing or of another size: {lost[0]} "
                    f"{bad[lost[0]]}"
                )
            if outputs and model.is_own:
                _renew_head(network, auto, bad)
    if model.freeze_embeddings:
        network.get_input_embeddings().requires_grad_(False)
    if model.lora is not None:
        _add_lora(network, model.lora)
    return network


def _renew_head(network: Any, auto: Any, new: Mapping[str, Any]) -> None:
    """Give a network a new head where its file has one of as many classes, as timm's get one."""
    base = f"{network.base_model_prefix}."
    names = [name for name in network.state_dict() if not name.startswith(base)]
    if not new.keys() >= {*names}:
        fresh = auto.from_config(network.config).state_dict()
        network.load_state_dict({name: fresh[name] for name in names}, strict=False)


def _add_lora(network: Any, rank: int) -> None:
    """Add LoRA's matrices to all linear layers below the head, and freeze what is below it.

    α is twice the rank, and there is no dropout (Hu et al., arXiv 2106.09685, section 4).
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError(
            f"model.lora={rank} needs the package peft: "
            "pip install -c constraints.txt -e '.[suite]'"
        ) from error
    head = network.get_output_embeddings()
    layers = [
        name
        for name, module in network.base_model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    ]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers)
    inject_adapter_in_model(config, network.base_model)


def _is_new(network: Any, name: str) -> bool:
    """Return whether a tensor belongs to the head, or to a pooler, which no features go through."""
    base = "" if network.base_model is network else f"{network.base_model_prefix}."
    return not name.startswith(base) or name.startswith(f"{base}pooler.")


def transformers_tokenizer(model: ModelSpec, data_dir: Path, synthetic: bool) -> Any:
    """Return the network's tokenizer; a synthetic one knows the words that synthetic tasks use."""
    from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

    if not synthetic:
        with _weights(model, data_dir) as folder:
            own: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        positions = getattr(config, "max_position_embeddings", None)
        if positions and own.model_max_length > LONGEST:  # it does not say
            own.model_max_length = positions - 2  # RoBERTa's kind begins at the third
        if own.pad_token is None:  # of a network that writes
            own.pad_token = own.eos_token
        return own
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = {word: index for index, word in enumerate(SYNTHETIC_WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [END]", pair="$A [END] $B:1 [END]:1", special_tokens=[("[END]", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        eos_token="[END]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "attention_mask"],
    )


@contextmanager
def _weights(model: ModelSpec, data_dir: Path) -> Iterator[Path]:
    """Give the file or folder of the weights; what is wrong with it becomes a UserError."""
    weights = required(model.weights, "model.weights")
    if weights.archive:
        folder = fetch(weights.archive, data_dir)
        path = folder / required(weights.file, "model.weights.file")
    else:
        path = folder = copy_of(weights, data_dir).folder
    try:
        yield path
    except (UserError, MemoryError):
        raise
    except Exception as error:  # what is no weights file makes the libraries raise anything
        todo = f"delete {folder}, which was fetched, and run the same command again"
        if weights.path:
            todo = f"choose the network of these weights with model=..., or {remedy(weights)}"
        raise UserError(
            f"{path} does not hold the weights of {model.arch} ({_misfit(error)}): {todo}"
        ) from error


def _misfit(error: Exception) -> str:
    """The first tensor that does not fit, where it is that, else what the error says."""
    text = one_line(error)
    sizes = re.search(
        r"size mismatch for (\S+): .*?torch.Size\((.*?)\).*?torch.Size\((.*?)\)", text
    )
    names = re.search(r"(Missing|Unexpected) key\(s\) in state_dict: \"(.*?)\"", text)
    if names:
        return f"{names[2]} is {'missing' if names[1] == 'Missing' else 'in no such network'}"
    return f"{sizes[1]} is {sizes[2]} there and {sizes[3]} here" if sizes else reason(error)


def _load_in_order(network: nn.Module, tensors: list[Tensor], head: set[str]) -> nn.Module:
    """Copy tensors into the network one by one: the files name them otherwise than the library.

    Surplus tensors at the end are the head of pretraining. Raises ValueError for another shape.
    """
    own = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not any(name.startswith(prefix) for prefix in head)
    }
    if len(tensors) < len(own):
        raise ValueError(f"it has {len(tensors)} tensors, and {len(own)} are needed")
    for (name, mine), theirs in zip(own.items(), tensors, strict=False):
        if mine.shape != theirs.shape:
            raise ValueError(f"{name} is {list(theirs.shape)} there and {list(mine.shape)} here")
        mine.copy_(theirs)
    return network


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
