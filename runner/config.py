"""From a command line to the typed description of a run: Hydra composes, the specs check."""

import contextlib
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override, OverrideType, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner import CONFIGS, ROOT, identity
from runner import overrides as typed
from tasks import own_models
from tasks.errors import UserError, reason
from tasks.format import did_you_mean

if TYPE_CHECKING:  # to import pydantic takes a third of the time in which a wrong name is answered
    from runner.specs import Execution, RunSpec
    from tasks.specs import TaskSpec

GROUPS = ("task", "model", "opt", "protocol")

Plain = dict[Any, Any]  # a configuration as dicts, lists and values


@dataclass(frozen=True)
class Config:
    """A run that was asked for: what its result depends on, and what it does not."""

    spec: "RunSpec"
    execution: "Execution"

    def changed(self, changes: Mapping[str, Any], seed: int) -> "Config":
        """Return the same with other settings of the optimizer, and another seed.

        Raises:
            UserError: for a setting that the optimizer does not have, or an impossible value.
        """
        return replace(self, spec=self.spec.changed(changes, seed))


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


def load(overrides: Iterable[str]) -> Config:
    """Compose and check the run that the overrides describe.

    Raises:
        UserError: for an unknown name or key, a wrong type, an impossible value.
    """
    overrides = [typed.quoted(word) for word in overrides]
    parsed = typed.parse(overrides)
    defaults = _checked_names(parsed)
    try:
        if _only_set_values(parsed):
            run = _with_values(defaults, parsed)
        else:
            with _hydra():
                composed = compose("config", for_hydra(overrides))
            run = _checked(_resolved(composed), defaults, parsed)
        _check_yamls_names(parsed, run.spec)
        return run
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(reason(error)) from error


def options(group: str) -> list[str]:
    """Return the names that can be chosen of a group.

    A yaml whose name begins with "_" holds what several others share (their `defaults`).
    """
    return sorted(path.stem for path in (CONFIGS / group).glob("[!_]*.yaml"))


def check_names(overrides: Iterable[str]) -> None:
    """Refuse unknown groups, options and keys with the closest valid ones."""
    _checked_names(typed.parse(overrides))


def _checked_names(parsed: list[Override]) -> Plain:
    """Check names; return the chosen options with all values as their yamls have them."""
    chosen = [o for o in parsed if o.key_or_group in GROUPS and not o.is_delete()]
    own: dict[str, Plain] = {}  # networks of the user's
    for override in chosen:
        valid = options(override.key_or_group)
        for name in _values(override):
            if override.key_or_group == "model" and own_models.is_own(name):
                own[name] = own_models.block(name)
            elif name not in valid:
                near = did_you_mean(name, valid)
                if override.key_or_group == "model" and "/" in name:
                    near = f"a network of your own is {own_models.FORMS}"
                raise UserError(f"there is no {override.key_or_group}={name}: {near}")
    choices = {o.key_or_group: _values(o)[0] for o in chosen}
    model = choices.get("model", "")
    if model in own:
        defaults = _composed({**choices, "model": own_models.yaml_of(model)})
        defaults["model"] = {**defaults["model"], **own[model]}
    else:
        defaults = _composed(choices)
    keys = _names(defaults)
    for override in parsed:
        key = override.key_or_group
        if override in chosen or key.startswith("hydra"):
            continue
        if override.is_delete() or (_is_fixed(key) and (key in keys or override.is_add())):
            raise UserError(f"{key} is not to be changed: copy a yaml of configs/ under a new name")
        if key not in keys and not override.is_add():
            raise UserError(f"there is no key {key}: {did_you_mean(key, sorted(keys))}")
    return defaults


def for_hydra(words: Iterable[str]) -> list[str]:
    """Return words in which networks of the user's are options of Hydra's group, and make them so.

    They are as :func:`runner.overrides.quoted` returns them, and were checked before.
    """
    found = []
    for word in words:
        if word.startswith("model="):
            (override,) = typed.parse([word])
            word = f"model={','.join(map(_hydra_option, _values(override)))}"
        found.append(word)
    return found


def _hydra_option(name: str) -> str:
    """Return the name of an option of Hydra's, which has no signs of paths and of its grammar."""
    if not own_models.is_own(name):
        return name
    option = quote(name, safe="")
    node = {"defaults": [own_models.yaml_of(name), "_self_"], **own_models.block(name)}
    ConfigStore.instance().store(group="model", name=option, node=node)
    return option


def _is_fixed(key: str) -> bool:
    """Say whether a yaml alone may set a key: it is, or lies in, what is so marked."""
    from runner.specs import fixed_keys

    parts = key.split(".")
    return parts[0] in GROUPS and parts[-1] != "path" and not fixed_keys().isdisjoint(parts)


# What was composed before, unresolved: each group's part by its option, and the rest.
_parts: dict[Any, Plain] = {}
# The options of the latest composition, whose parts are all known.
_known: dict[str, str] = {}
_REST = "rest"
# What was resolved last but for its optimizer: what describes it, the tree, and the run.
_latest: tuple[Any, DictConfig, Config] | None = None


def _composed(choices: Mapping[str, str]) -> Plain:
    """Return the configuration of the options of groups, without their values resolved.

    Hydra needs some tenths of a second. A group's part depends on its option alone (the network's
    on the task's, where none is chosen), so parts that were composed are put together: a sweep
    composes each of its tasks, networks and optimizers once, and not each of their combinations.
    """
    new = [group for group, key in _keys(choices).items() if key not in _parts]
    if _parts and len(new) > 1:  # one after another, or nobody could tell which of them wrote what
        for group in new:
            if group in choices:
                _compose({**_known, group: choices[group]})
    if not all(key in _parts for key in _keys(choices).values()):
        _compose(choices)
    return {**_parts[_REST], **{group: _parts[key] for group, key in _keys(choices).items()}}


def _keys(choices: Mapping[str, str]) -> dict[str, Any]:
    """Return under which key each group's part is kept: an option by name is that by default."""
    keys: dict[str, Any] = {}
    for group in GROUPS:
        default = ("model of", keys["task"]) if group == "model" else (group, None)
        chosen = choices.get(group, default)
        by_default = chosen in (default, _parts.get(default, {}).get("name"))
        keys[group] = default if by_default else (group, chosen)
    return keys


def _compose(choices: Mapping[str, str]) -> None:
    """Let Hydra compose the options of groups, and keep the parts."""
    global _known
    with _hydra():
        config = compose("config", [f"{group}={name}" for group, name in choices.items()])
    whole: Any = OmegaConf.to_container(config)
    keys = _keys(choices)
    found = {key: whole[group] for group, key in keys.items()}
    found[_REST] = {**whole, **dict.fromkeys(GROUPS)}
    new = found.keys() - _parts.keys()
    foreign = any(_parts[key] != found[key] for key in found.keys() - new)
    if foreign or len(new - {("model of", keys["task"])}) > 1:
        # Some yaml, of a user's, writes to a part that is not its own; or may have done so, where
        # two parts are new at once. What was composed before says nothing of these.
        _parts.clear()
    _parts.update(found)
    _known = dict(choices)


def what_was_composed() -> tuple[dict[Any, Plain], dict[str, str]]:
    """Return what this process has composed, for :func:`take_over` in another."""
    return _parts, _known


def take_over(composed: tuple[dict[Any, Plain], dict[str, str]]) -> None:
    """Let this process, which has composed nothing, begin with what another has composed."""
    global _parts, _known
    _parts, _known = composed


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


def _with_values(defaults: Plain, parsed: list[Override]) -> Config:
    """Return the run with its values set and resolved, as compose() would make it.

    Where only the optimizer is another than before, only the optimizer is resolved.
    """
    from runner.specs import OptimizerSpec

    global _latest
    values = [o for o in parsed if o.key_or_group not in GROUPS]
    rest = {name: part for name, part in defaults.items() if name != "opt"}
    key = rest, [o.input_line for o in values]
    if _latest is not None and _latest[0] == key:
        _, tree, run = _latest
        tree.opt = defaults["opt"]
        OmegaConf.resolve(tree.opt)
        opt = OptimizerSpec.parse(to_plain(tree.opt), "opt")
        return replace(run, spec=run.spec.replaced(opt=opt))
    tree = OmegaConf.create(defaults)
    OmegaConf.set_struct(tree, True)  # as compose() does
    for override in values:
        try:
            OmegaConf.update(tree, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException as error:
            raise UserError(f"Error merging override {override.input_line}") from error
    run = _checked(_resolved(tree), defaults, parsed)
    if "${opt" not in str(rest) and not any(o.key_or_group.startswith("opt") for o in values):
        _latest = key, tree, run
    return run


def _resolved(tree: DictConfig) -> DictConfig:
    _check_domain(tree)  # first: tasks refer to what only models of their domain have
    OmegaConf.resolve(tree)
    return tree


def _checked(tree: DictConfig, defaults: Plain, parsed: list[Override]) -> Config:
    """Return the run that a resolved tree describes."""
    from runner.specs import Composed, OptimizerSpec

    plain = to_plain(tree)
    opt = plain.pop("opt")
    _check_nulls(parsed, defaults)
    if any(override.key_or_group.startswith("opt.") for override in parsed):
        tree.opt = defaults["opt"]
        OmegaConf.resolve(tree.opt)
        _check_arguments(opt, to_plain(tree.opt))
    composed = Composed.parse({**plain, "opt": OptimizerSpec.parse(opt, "opt")})
    _check_meaning(parsed, composed.run.task)
    return Config(composed.run, composed.execution)


def _check_yamls_names(parsed: list[Override], spec: "RunSpec") -> None:
    """Refuse a copied yaml that still has the other's name: its runs would be the other's."""
    chosen = {o.key_or_group: _values(o)[-1] for o in parsed if o.key_or_group in GROUPS}
    for group, option in chosen.items():
        name = getattr(spec, group).name
        if name != option and not own_models.is_own(option):
            raise UserError(
                f"{group}={option}: configs/{group}/{option}.yaml says name: {name}, and must say "
                "the name of its file"
            )


def _check_meaning(parsed: list[Override], task: "TaskSpec") -> None:
    """Refuse what a task would ignore: its run would differ in name alone."""
    from tasks.data.blocks import NO_FEATURES, OF_IMAGES, OF_TEXTS
    from tasks.specs import ModelSpec, TrainSpec

    heeded = {"vision": TrainSpec.marked(OF_IMAGES), "language": TrainSpec.marked(OF_TEXTS)}
    of_trained = ModelSpec.marked(NO_FEATURES) if task.source else set()
    # Theory looks at f on the training examples alone, and not all of its problems have data.
    unread = {"validation_examples", "test_examples"} if task.domain == "theory" else set()
    unread |= {"train_examples"} if task.dimension else set()
    for override in parsed:
        block, _, key = override.key_or_group.partition(".")
        for domain, keys in heeded.items():
            if block == "train" and key in keys and task.domain != domain:
                raise UserError(
                    f"{override.input_line} is for {domain} tasks, and task={task.name} is a "
                    f"{task.domain} task: leave it out"
                )
        if block == "train" and key in unread and override.value() is not None:
            raise UserError(
                f"{override.input_line} says nothing to task={task.name}: it has no such "
                "examples, leave it out"
            )
        if block == "model" and key in of_trained and override.value() is not None:
            raise UserError(
                f"{override.input_line} is for networks that are trained, and task={task.name} "
                "trains none: leave it out"
            )


def _check_arguments(opt: Plain, default: Plain) -> None:
    """Give what the spec of an optimizer does not declare the type of its default, or refuse it."""
    from runner.specs import OptimizerSpec
    from tasks.data.blocks import check_like

    for key in opt.keys() - OptimizerSpec.model_fields.keys() - {"_target_"}:
        opt[key] = check_like(f"opt.{key}", opt[key], default.get(key))


def _check_nulls(parsed: list[Override], defaults: Plain) -> None:
    """Refuse a null in place of a value, unless it has a meaning of its own."""
    from runner.specs import nullable_keys

    for override in parsed:
        key = override.key_or_group
        if key in GROUPS or override.is_sweep_override() or override.value() is not None:
            continue
        if key not in nullable_keys() and not override.is_add():
            untouched = OmegaConf.create(defaults)
            if OmegaConf.select(untouched, key) is not None:
                raise UserError(f"{key}=null: must be set")


def with_local_copies(run: Config) -> Config:
    """Return the run with digests of the user's own data and weights, which its id depends on.

    Raises:
        UserError: if they cannot be read.
    """
    copies = identity.local_copies(run.spec, run.execution.data)
    if not copies:
        return run
    return replace(run, spec=run.spec.replaced(local_copies=copies))


def sources_of(run: Config) -> dict[str, str | None]:
    """Return what a run's data and weights would be read from now, as far as it can be named."""
    return identity.sources(run.spec, run.execution.data)


def to_plain(config: DictConfig) -> dict[str, Any]:
    """Return the configuration as dicts, lists and values."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return plain


def replica_key(run: Config) -> str:
    """Return a hash of all but optimizer and seed: runs that share it can train together."""
    spec = {name: part for name, part in run.spec.plain().items() if name not in ("opt", "seed")}
    return identity.hash_of({**spec, "execution": run.execution.plain()})


def in_project(path: str) -> Path:
    """Return a path that, if it is relative, is so to the project's folder."""
    return (ROOT / Path(path).expanduser()).resolve()


def opt_changes(spec: "RunSpec") -> dict[str, Any]:
    """Return the optimizer's settings that are not its yaml's defaults for so many steps."""
    # No optimizer's default depends on a network that is not of a yaml.
    groups = [group for group in GROUPS if group != "model" or not spec.model.is_own]
    choices = tuple(f"{group}={getattr(spec, group).name}" for group in groups)
    default = _default_opt(choices, spec.task.synthetic, spec.train.steps)
    return {
        name: value for name, value in spec.settings["opt"].items() if value != default.get(name)
    }


@functools.cache
def _default_opt(choices: tuple[str, ...], synthetic: bool, steps: int) -> dict[str, Any]:
    """Return the optimizer's settings as these choices and the number of steps make them."""
    from runner.specs import OptimizerSpec

    defaults = _composed(dict(choice.split("=") for choice in choices))
    tree = OmegaConf.create(defaults)
    tree.task.synthetic = synthetic
    tree.train.steps = steps
    OmegaConf.resolve(tree.opt)
    return dict(OptimizerSpec.parse(to_plain(tree.opt), "opt").scientific)


def _hydra() -> Any:
    """Give compose() its folder, unless Hydra's own main has done so."""
    if GlobalHydra.instance().is_initialized():
        return contextlib.nullcontext()
    return initialize_config_dir(str(CONFIGS), version_base=None)


def _check_domain(config: DictConfig) -> None:
    if config.model.for_domain != config.task.domain:
        raise UserError(
            f"model={config.model.name} is for {config.model.for_domain} tasks, and "
            f"task={config.task.name} is a {config.task.domain} task"
        )


def _names(plain: Plain, prefix: str = "") -> set[str]:
    """Return the dotted names of all that a configuration holds, of dicts as well."""
    names = set()
    for name, value in plain.items():
        names.add(f"{prefix}{name}")
        if isinstance(value, dict):
            names |= _names(value, f"{prefix}{name}.")
    return names


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [_typed_name(str(override.value()))]
    try:
        values = list(override.sweep_iterator())
    except HydraException as error:  # a glob, which only Hydra's own command line resolves
        line = f"{override.input_line}: list the names instead, {override.key_or_group}=a,b"
        raise UserError(line) from error
    texts = (value.text if isinstance(value, QuotedString) else str(value) for value in values)
    return [_typed_name(text) for text in texts]


def _typed_name(name: str) -> str:
    """Return a name as it was typed: a job of Hydra's multirun has a :func:`_hydra_option`."""
    before = unquote(name)
    return before if ":" not in name and own_models.is_own(before) else name
