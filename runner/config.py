"""From a command line to a checked configuration, and from that to what a result depends on."""

import contextlib
import functools
import math
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner import identity
from runner import overrides as typed
from tasks.data.sources import default_data_dir
from tasks.errors import UserError
from tasks.format import did_you_mean

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
GROUPS = ("task", "model", "opt", "protocol")

Plain = dict[Any, Any]  # a configuration as dicts, lists and values

# What a result depends on, and within it what merely describes or locates.
SCIENTIFIC = ("task", "model", "opt", "train", "protocol", "seed")
DESCRIPTIVE = {"_target_", "label", "description", "grid", "data", "weights", "tokenizer"}
DESCRIPTIVE |= {"replicas", "independent_groups", "role"}
DESCRIPTIVE |= {"classes", "shape", "synthetic_arch", "for_domain", "forms", "prompt"}

# What the yaml files alone may say: a record tells what it was made from by these names.
FIXED = {"_target_", "name", "version", "domain", "for_domain", "budget", "source", "sha256"}
FIXED |= {"weights", "tokenizer", "examples", "reader", "hub", "columns", "forms", "prompt"}
FIXED |= {"prescribes", "baseline", "replicas", "independent_groups", "files", "md5", "url"}
FIXED |= {"torchvision", "manual", "layout", "role"}

POSITIVE, NOT_NEGATIVE = "must be above 0", "must not be below 0"
RANGES = {
    **dict.fromkeys(
        ("train.steps", "train.batch_size", "train.train_examples", "train.test_examples",
         "train.validation_examples", "train.eval_every", "train.image_size", "train.max_tokens",
         "opt.lr", "opt.reps_rel", "opt.init_eta", "opt.clip_norm", "threads", "eval_batch_size",
         "log_every", "checkpoint_seconds", "opt.steps", "opt.delta", "task.l2",
         "task.dimension", "executor.workers", "executor.gpu_share", "executor.cpus",
         "executor.minutes", "executor.memory_gb", "executor.array_parallelism",
         "executor.array_size", "executor.poll_seconds"),
        POSITIVE,
    ),
    **dict.fromkeys(
        ("seed", "workers", "train.averaging_gamma", "opt.weight_decay", "opt.eps",
         "opt.momentum", "opt.warmup", "opt.lipschitz", "executor.gpus", "executor.retries",
         "executor.timeouts", "executor.signal_seconds"),
        NOT_NEGATIVE,
    ),
}  # fmt: skip
WHOLE = {"threads", "train.train_examples", "train.test_examples", "train.max_tokens"}
WHOLE |= {"train.image_size", "train.validation_examples", "opt.steps"}
WHOLE |= {"executor.workers", "executor.gpus"}
TEXTS = {
    "data_dir",
    "wandb.project",
    "wandb.entity",
    "task.data.path",
    "task.source.data.path",
    "model.weights.path",
    *(f"executor.{key}" for key in ("address", "partition", "account", "qos", "constraint")),
}
# What may be null although its default is not.
NULLABLE = {"train.train_examples", "train.test_examples", "train.checkpoint"}
CHOICES = {
    "train.augment": (
        *("none", "flip", "crop", "natural", "natural_unflipped", "padded_crop", "timm"),
    ),
    "train.precision": ("fp32", "bf16"),
    "train.checkpoint": ("best",),
    "model.batch_norm": ("frozen", "train"),
    "opt.schedule": ("constant", "cosine"),
    "opt.role": ("reference", "tuning_free", "tuned"),
    "device": ("auto", "cpu", "cuda"),
    "wandb.mode": ("offline", "online", "disabled"),
    "executor.cluster": ("slurm", "local"),
}


def _budget(key: str, default: Any = None, *, _root_: DictConfig) -> Any:
    """Resolve ${budget:key}: what the protocol prescribes for this task.

    Its own entry in the protocol's `tasks` comes first, then what the task itself `prescribes`
    under every protocol, then its budget's section, then its domain's. A synthetic task's budget
    is `synthetic`'s.
    """
    task, protocol = _root_.task, _root_.protocol
    own = protocol.get("tasks", {}).get(task.name, {})
    prescribed = task.get("prescribes", {})
    made_up = _root_.synthetic if task.synthetic else {}
    for section in (made_up, own, prescribed, protocol[task.budget], protocol[task.domain]):
        found = _lookup(section, key)
        if found is not _ABSENT:
            return found
    return default


_ABSENT = object()


def _lookup(section: Any, key: str) -> Any:
    """Return the value of a dotted key, which may be null; _ABSENT if there is none."""
    for part in key.split("."):
        if part not in section:
            return _ABSENT
        section = section[part]
    return section


OmegaConf.register_new_resolver("budget", _budget, replace=True)
OmegaConf.register_new_resolver("in_project", lambda path: str(in_project(path)), replace=True)


def load(overrides: Iterable[str]) -> DictConfig:
    """Compose and check the configuration that the overrides describe.

    Raises:
        UserError: for an unknown name or key, a wrong type, an impossible value.
    """
    overrides = [typed.quoted(word) for word in overrides]
    parsed = typed.parse(overrides)
    defaults = _checked_names(parsed)
    try:
        if _only_set_values(parsed):
            return _with_values(defaults, parsed)
        with _hydra():
            config = compose("config", overrides)
        _check_added(config, defaults)
        return _resolved(config, defaults, parsed)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_first_line(error)) from error


def check_names(overrides: Iterable[str]) -> None:
    """Refuse unknown groups, options and keys with the closest valid ones."""
    _checked_names(typed.parse(overrides))


def _checked_names(parsed: list[Override]) -> Plain:
    """Check names; return the chosen options with all values as their yamls have them."""
    chosen = [o for o in parsed if o.key_or_group in GROUPS and not o.is_delete()]
    for override in chosen:
        options = sorted(path.stem for path in (CONFIGS / override.key_or_group).glob("*.yaml"))
        for name in _values(override):
            if name not in options:
                raise UserError(
                    f"there is no {override.key_or_group}={name}: {did_you_mean(name, options)}"
                )
    defaults = _composed({o.key_or_group: _values(o)[0] for o in chosen})
    keys = _names(defaults)
    for override in parsed:
        key = override.key_or_group
        if override in chosen or key.startswith("hydra"):
            continue
        parts = key.split(".")
        fixed = parts[0] in GROUPS and FIXED & set(parts) and parts[-1] != "path"
        if override.is_delete() or (fixed and (key in keys or override.is_add())):
            raise UserError(f"{key} is not to be changed: copy a yaml of configs/ under a new name")
        if key not in keys and not override.is_add():
            raise UserError(f"there is no key {key}: {did_you_mean(key, sorted(keys))}")
    return defaults


# What was composed before, unresolved: each group's part by its option, and the rest.
_parts: dict[Any, Plain] = {}
_REST = "rest"
# The configuration that was resolved last but for its optimizer, pickled, and what describes it.
_latest: tuple[Any, bytes] | None = None


def _composed(choices: Mapping[str, str]) -> Plain:
    """Return the configuration of the options of groups, without their values resolved.

    Hydra needs some tenths of a second. A group's part depends on its option alone (the network's
    on the task's, where none is chosen), so parts that were composed are put together: a sweep
    composes each of its tasks, networks and optimizers once, and not each of their combinations.
    """
    keys: dict[str, Any] = {group: (group, choices.get(group)) for group in GROUPS}
    if "model" not in choices:
        keys["model"] = ("model of", choices.get("task"))
    if all(key in _parts for key in keys.values()):
        return {**_parts[_REST], **{group: _parts[key] for group, key in keys.items()}}
    with _hydra():
        config = compose("config", [f"{group}={name}" for group, name in choices.items()])
    whole: Any = OmegaConf.to_container(config)
    found = {key: whole[group] for group, key in keys.items()}
    found[_REST] = {**whole, **dict.fromkeys(GROUPS)}
    new = found.keys() - _parts.keys()
    foreign = any(_parts[key] != found[key] for key in found.keys() - new)
    if foreign or len(new - {("model of", choices.get("task"))}) > 1:
        # Some yaml, of a user's, writes to a part that is not its own; or may have done so, where
        # two parts are new at once. What was composed before says nothing of these.
        _parts.clear()
    _parts.update(found)
    return whole


def _only_set_values(parsed: list[Override]) -> bool:
    """Say whether overrides do nothing but choose options and set keys; else Hydra has the word."""
    groups = [o.key_or_group for o in parsed if o.key_or_group in GROUPS]
    return len(groups) == len(set(groups)) and all(
        o.type is OverrideType.CHANGE
        and o.package is None
        and not o.is_sweep_override()
        and not o.key_or_group.startswith("hydra")
        for o in parsed
    )


def _with_values(defaults: Plain, parsed: list[Override]) -> DictConfig:
    """Return the configuration with its values set and resolved, as compose() would make it.

    Where only the optimizer is another than before, only the optimizer is resolved.
    """
    global _latest
    values = [o for o in parsed if o.key_or_group not in GROUPS]
    rest = {name: part for name, part in defaults.items() if name != "opt"}
    key = rest, [o.input_line for o in values]
    if _latest is not None and _latest[0] == key:
        config: DictConfig = pickle.loads(_latest[1])
        config.opt = defaults["opt"]
        return _resolved(config, defaults, parsed, opt_alone=True)
    config = OmegaConf.create(defaults)
    OmegaConf.set_struct(config, True)  # as compose() does
    for override in values:
        try:
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException as error:
            raise UserError(f"Error merging override {override.input_line}") from error
    _resolved(config, defaults, parsed)
    if "${opt" not in str(rest) and not any(o.key_or_group.startswith("opt") for o in values):
        _latest = key, pickle.dumps(config)
    return config


def _resolved(
    config: DictConfig, defaults: Plain, parsed: list[Override], opt_alone: bool = False
) -> DictConfig:
    """Resolve and check a configuration, or its optimizer alone."""
    _check_domain(config)  # first: tasks refer to what only models of their domain have
    OmegaConf.resolve(config.opt if opt_alone else config)
    expected = _leaves({"opt": defaults["opt"]} if opt_alone else defaults)
    interpolated = {name for name, value in expected.items() if "${" in str(value)}
    given = interpolated & {o.key_or_group for o in parsed}
    untouched = OmegaConf.create(defaults) if given else config
    for name in interpolated:
        # What was not given is as the yamls have it.
        expected[name] = OmegaConf.select(untouched if name in given else config, name)
    plain = {"opt": to_plain(config.opt)} if opt_alone else to_plain(config)
    _check_values(config, _leaves(plain), expected)
    return config


def settings_of(config: DictConfig) -> dict[str, Any]:
    """Return all that the result of a run depends on, as plain values.

    Raises:
        UserError: if the user's own copy of data or weights cannot be read.
    """
    plain = to_plain(config)
    settings = _strip({name: plain[name] for name in SCIENTIFIC})
    settings["protocol"] = {name: plain["protocol"][name] for name in ("name", "version")}
    if copies := identity.local_copies(plain, data_dir(config)):
        settings["local_copies"] = copies
    return settings


def sources_of(config: DictConfig, settings: Mapping[str, Any]) -> dict[str, str | None]:
    """Return what a run's data and weights would be read from now, as far as it can be named."""
    copies = settings.get("local_copies", {})
    return identity.sources(to_plain(config), copies, data_dir(config))


def to_plain(config: DictConfig) -> dict[str, Any]:
    """Return the configuration as dicts, lists and values."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return plain


def replica_key(config: DictConfig) -> str:
    """Return a hash of all but optimizer and seed: runs that share it can train together."""
    plain = to_plain(config)
    return identity.hash_of({name: plain[name] for name in plain if name not in ("opt", "seed")})


def runs_dir(config: DictConfig) -> Path:
    """Return the folder of all runs."""
    return in_project(config.runs_dir)


def in_project(path: str) -> Path:
    """Return a path that, if it is relative, is so to the project's folder."""
    return (ROOT / Path(path).expanduser()).resolve()


def data_dir(config: DictConfig) -> Path:
    """Return the folder of data and weights."""
    chosen = Path(config.data_dir).expanduser() if config.data_dir else default_data_dir()
    return chosen.resolve()


def as_in_ids(key: str, value: Any, default: Any) -> Any:
    """Return a value as a run's id has it: lr=1 and lr=1.0 are one run.

    Where a fraction may stand, a whole number is one; its default may be null.
    """
    fraction = isinstance(default, float) or (
        key in RANGES.keys() - WHOLE and key.startswith("opt.")
    )
    return float(value) if fraction and type(value) is int else value


def check_value(key: str, value: Any, default: Any) -> None:
    """Refuse a value of another type than its default's, or an impossible one."""
    wanted = _type_error(key, value, default)
    if wanted:
        raise UserError(f"{key}={_shown(value)}: must be {wanted}")
    if value is not None and key in CHOICES and value not in CHOICES[key]:
        raise UserError(f"{key}={value}: must be one of {', '.join(CHOICES[key])}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key}={value}: must be a finite number")
    low = RANGES.get(key)
    if value is not None and low and not (value > 0 if low == POSITIVE else value >= 0):
        raise UserError(f"{key}={value}: {low}")


def opt_changes(config: DictConfig) -> dict[str, Any]:
    """Return the optimizer's settings that are not its yaml's defaults."""
    default = _default_opt(tuple(_group_choices(config)), config.task.synthetic)
    return {
        str(name): value
        for name, value in config.opt.items()
        if name not in DESCRIPTIVE and value != default.get(name)
    }


@functools.cache
def _default_opt(choices: tuple[str, ...], synthetic: bool) -> DictConfig:
    """Return the optimizer's configuration as these choices alone make it."""
    default = OmegaConf.create(_composed(dict(zip(GROUPS, choices, strict=True))))
    default.task.synthetic = synthetic
    OmegaConf.resolve(default.opt)
    return default.opt


def check_opt(config: DictConfig, changes: Mapping[str, Any]) -> None:
    """Refuse settings of the optimizer that could not be typed: opt.key=value."""
    for key, value in changes.items():
        if key not in config.opt:
            near = did_you_mean(key, [str(name) for name in config.opt])
            raise UserError(f"opt={config.opt.name} has no key {key}: {near}")
        if not isinstance(value, list):
            name, default = f"opt.{key}", config.opt[key]
            check_value(name, as_in_ids(name, value, default), default)
    _check_warmup(changes.get("warmup", config.opt.warmup))


def with_changes(config: DictConfig, changes: Mapping[str, Any]) -> DictConfig:
    """Return a copy of a composed configuration with dotted keys set to new values."""
    changed = config.copy()
    for key, value in changes.items():
        OmegaConf.update(changed, key, value)
    return changed


def _group_choices(config: DictConfig) -> list[str]:
    return [config[group].name for group in GROUPS]


def _hydra() -> Any:
    """Give compose() its folder, unless Hydra's own main has done so."""
    if GlobalHydra.instance().is_initialized():
        return contextlib.nullcontext()
    return initialize_config_dir(str(CONFIGS), version_base=None)


def _check_values(
    config: DictConfig, values: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
    """Refuse wrong types and impossible values; a whole number where a fraction may stand is one.

    The default tells the type, so that a new key needs no entry here.
    """
    for key in sorted(values):
        value, default = values[key], expected.get(key)
        if isinstance(value, list):
            continue
        if (same := as_in_ids(key, value, default)) is not value:
            value = same
            OmegaConf.update(config, key, value)
        check_value(key, value, default)
    _check_warmup(config.opt.warmup)


def _check_warmup(warmup: float) -> None:
    if warmup > 1:
        raise UserError(f"opt.warmup={warmup}: must be a part of the steps, at most 1")


def _check_added(config: DictConfig, defaults: Plain) -> None:
    """Refuse keys that were added with + and that nothing reads.

    A yaml may lack what others of its group have; arguments are refused by what they are for.
    """
    keys = _names(defaults)
    whole: Any = OmegaConf.to_container(config)
    for key in sorted(_names(whole) - keys):
        top = key.partition(".")[0]
        if top == "opt" or key.startswith("model.arguments."):
            continue
        group = CONFIGS / ("protocol" if top == "synthetic" else top)
        paths = group.glob("*.yaml") if top in keys else []
        yamls: list[Any] = [OmegaConf.to_container(OmegaConf.load(path)) for path in paths]
        known = keys | {f"{top}.{one}" for yaml in yamls for one in _names(yaml)}
        words = {part for one in known if one.startswith(top) for part in one.split(".")}
        if top == "protocol":
            words |= {path.stem for path in (CONFIGS / "task").glob("*.yaml")}
        if top not in keys or not words.issuperset(key.split(".")):
            raise UserError(f"there is no key {key}: {did_you_mean(key, sorted(known))}")


def _check_domain(config: DictConfig) -> None:
    if config.model.for_domain != config.task.domain:
        raise UserError(
            f"model={config.model.name} is for {config.model.for_domain} tasks, and "
            f"task={config.task.name} is a {config.task.domain} task"
        )


def _type_error(key: str, value: Any, default: Any) -> str | None:
    """Say what a value should have been, or None if it is right."""
    if value is None:
        return None if default is None or key in NULLABLE else "set"
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int) or (key in WHOLE and not isinstance(default, float)):
        return None if whole else "a whole number"
    if isinstance(default, float) or key in RANGES:
        return None if whole or isinstance(value, float) else "a number"
    if isinstance(default, str) or key in TEXTS:
        return None if isinstance(value, str) else "a text"
    if isinstance(default, list | ListConfig):
        return None if isinstance(value, list | ListConfig) else "a list"
    return None


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _names(plain: Plain, prefix: str = "") -> set[str]:
    """Return the dotted names of all that a configuration holds, of dicts as well."""
    names = set()
    for name, value in plain.items():
        names.add(f"{prefix}{name}")
        if isinstance(value, dict):
            names |= _names(value, f"{prefix}{name}.")
    return names


def _leaves(plain: Plain, prefix: str = "") -> dict[str, Any]:
    """Return the values that are no dicts, by dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, dict):
            leaves |= _leaves(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def _strip(value: Any) -> Any:
    """Drop what merely describes, at any depth."""
    if isinstance(value, dict):
        return {str(k): _strip(v) for k, v in value.items() if k not in DESCRIPTIVE}
    return value


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.value())]
    try:
        return [str(value) for value in override.sweep_string_iterator()]
    except HydraException as error:  # a glob, which only Hydra's own command line resolves
        line = f"{override.input_line}: list the names instead, {override.key_or_group}=a,b"
        raise UserError(line) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
