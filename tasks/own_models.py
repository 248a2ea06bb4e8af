"""The user's choice of any network of timm or transformers: ``model=timm:resnet50``, ``hf:FOLDER``.

What a yaml says of the suite's networks is read from the network's own configuration.
"""

import json
import re
from collections.abc import Mapping
from glob import escape
from pathlib import Path
from typing import Any

from tasks.errors import UserError
from tasks.format import did_you_mean

FORMS = "timm:NAME, timm:FOLDER, timm:NAME@FILE, hf:NAME or hf:FOLDER"
# As the libraries write them; of a|b the first that is there, of a| none is needed.
TIMM_FILES = ["model.safetensors|open_clip_model.safetensors|pytorch_model.bin"]
HF_FILES = ["config.json", "*.json|"]  # with the tokenizer's and the index of weights in parts
# In the library's own order: what lies beside them is not read.
HF_FILES += ["model.safetensors|model-*.safetensors|pytorch_model.bin|pytorch_model-*.bin"]
# What else its tokenizers read.
HF_FILES += ["tokenizer*|", "vocab*|", "merges.txt|", "dict.txt|", "bpe.codes|"]
HF_FILES += ["*.model|", "*.spm|", "*.tokenizer|"]


def is_own(choice: str) -> bool:
    """Return whether a choice of ``model=`` is one of these, and not a yaml's name."""
    return choice.startswith(("timm:", "hf:"))


def yaml_of(choice: str) -> str:
    """Return the option that holds what all networks of the library share."""
    return f"_{choice.partition(':')[0]}"


def block(choice: str) -> dict[str, Any]:
    """Return what the network's own configuration says, as a yaml would.

    Raises:
        UserError: if there is no such network, or it is of another library.
    """
    library, _, name = choice.partition(":")
    if not name:
        raise UserError(f"model={choice} names no network: say {FORMS}")
    return _of_timm(name) if library == "timm" else _of_transformers(name)


def _of_timm(name: str) -> dict[str, Any]:
    path = Path(name).expanduser().absolute()
    if (path / "config.json").is_file():
        return _timm_folder(path)
    arch, at, file = name.rpartition("@")
    if at:
        path = Path(file).expanduser().absolute()
        if not path.is_file():
            raise UserError(f"model=timm:{name}: there is no file {path}")
        published = _registered(arch, with_weights=False)
        weights = {"path": str(path), "files": [escape(path.name)]}
        return _timm_block(f"{arch}@{path.name}", arch, published, {}, weights)
    if path.is_file():
        raise UserError(f"model=timm:{name} does not say which network: timm:NAME@{name}")
    if _is_path(name):
        raise UserError(f"model=timm:{name}: there is no {path}/config.json, as timm writes it")
    published = _registered(name)
    tagged = f"{published['architecture']}.{published['tag']}"
    hub = _hub(published["hf_hub_id"], TIMM_FILES)
    return _timm_block(tagged, tagged, published, {}, {"path": None, "hub": hub})


def _timm_folder(folder: Path) -> dict[str, Any]:
    config = _config(folder)
    if not isinstance(config.get("architecture"), str):
        raise _other_library("timm", folder, config)
    files = _there(folder, ["config.json", *TIMM_FILES])
    # The older form has all in one.
    published, arguments = config.get("pretrained_cfg", config), config.get("model_args") or {}
    arguments = {name: arguments[name] for name in arguments if name != "num_classes"}
    weights = {"path": str(folder), "files": files}
    return _timm_block(folder.name, config["architecture"], published, arguments, weights)


def _registered(name: str, with_weights: bool = True) -> dict[str, Any]:
    """Return what timm says of a network of its own."""
    import timm

    names = [*timm.list_models(), *timm.list_models(pretrained=True)]
    known: Any = timm.get_pretrained_cfg(name) if name in names else None
    if known is None:
        near = did_you_mean(name, names, "timm.list_models() has all")
        raise UserError(f"timm has no network {name}: {near}")
    if with_weights and not known.hf_hub_id:
        raise UserError(
            f"the hub has no weights of timm's {name}: choose another, or give a file of them, "
            f"model=timm:{name}@FILE"
        )
    return {**known.to_dict(), "architecture": known.architecture}


def _timm_block(
    name: str,
    arch: str,
    published: Mapping[str, Any],
    arguments: Mapping[str, Any],
    weights: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the block of a network of timm's, of which `published` is the ``pretrained_cfg``."""
    channels = (arguments.get("in_chans"), (published.get("input_size") or [3])[0])
    if channels[0] not in (None, 3) or channels[1] != 3:
        raise UserError(f"model=timm:{name} takes no images of 3 channels: choose one that does")
    any_size = arguments.get("dynamic_img_size") or arguments.get("strict_img_size") is False
    size = {"img_size": "${train.image_size}"}
    has_size = published.get("fixed_input_size") and not any_size
    return {
        "name": f"timm:{name}",
        "arch": arch,
        "arguments": {**arguments, **(size if has_size else {})},
        # timm's own defaults where they are absent
        "mean": [255 * value for value in published.get("mean") or (0.485, 0.456, 0.406)],
        "std": [255 * value for value in published.get("std") or (0.229, 0.224, 0.225)],
        "interpolation": published.get("interpolation") or "bicubic",
        "crop_pct": published.get("crop_pct") or 0.875,
        "weights": dict(weights),
    }


def _of_transformers(name: str) -> dict[str, Any]:
    folder = Path(name).expanduser().absolute()
    if (folder / "config.json").is_file():
        config = _config(folder)
        if not isinstance(config.get("model_type"), str):
            raise _other_library("transformers", folder, config)
        local = {"path": str(folder), "files": _there(folder, HF_FILES)}
        return {"name": f"hf:{folder.name}", "arch": config["model_type"], "weights": local}
    if folder.exists() or _is_path(name):
        raise UserError(
            f"model=hf:{name}: there is no {folder}/config.json, as transformers writes it"
        )
    weights = {"path": None, "hub": _hub(name, HF_FILES)}
    return {"name": f"hf:{name}", "arch": name, "weights": weights}


def _hub(repository: str, files: list[str]) -> dict[str, Any]:
    licence = "see its page on the hub"
    return {"repository": repository, "revision": None, "licence": licence, "files": files}


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): give a whole copy") from error
    return content if isinstance(content, dict) else {}


def _there(folder: Path, patterns: list[str]) -> list[str]:
    """Return which files of a folder are read, as patterns of these alone."""
    from tasks.data.hub import chosen  # here: a wrong name is answered at once

    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    found = {pattern: chosen(pattern, files) for pattern in patterns}
    for pattern, names in found.items():
        if not names and not pattern.endswith("|"):
            raise UserError(f"{folder} holds no {' or '.join(pattern.split('|'))}: put it there")
    return sorted({escape(name) for names in found.values() for name in names})


def _other_library(library: str, folder: Path, config: Mapping[str, Any]) -> UserError:
    if "model_type" in config:
        known = f"is of transformers: for tasks of texts, say model=hf:{folder}"
    elif "architecture" in config:
        known = f"is of timm: for tasks of images, say model=timm:{folder}"
    else:
        known = f"names no network of {library}: give a folder as {library} writes it"
    return UserError(f"{folder}/config.json {known}")


def _is_path(name: str) -> bool:
    """Return whether a name is meant as a path: the hub's have one slash at most."""
    return not re.fullmatch(r"[\w.-]*\w(/[\w.-]*\w)?", name, re.ASCII) or name.startswith(".")
