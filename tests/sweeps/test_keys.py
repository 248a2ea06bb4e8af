"""docs/keys.md: every key of configs/ is described there, as its spec does."""

import inspect
from importlib import import_module

from conftest import ROOT
from omegaconf import OmegaConf

from runner.config import CONFIGS, GROUPS
from sweeps import keys


def test_the_page_is_what_the_specs_say():
    """If this fails: python -m sweeps.keys > docs/keys.md"""
    assert (ROOT / "docs" / "keys.md").read_text() == keys.page()


def test_every_key_that_a_yaml_has_is_described():
    specs = dict(keys.SECTIONS)
    found = {
        group: {field.alias or name for name, field in keys.described(specs[group])}
        for group in (*GROUPS, "task.data", "model.weights")
    }
    lacking = set()
    for group in GROUPS:
        for path in (CONFIGS / group).glob("*.yaml"):
            yaml = OmegaConf.to_container(OmegaConf.load(path))
            for part in (group, "task.data", "model.weights"):
                block = yaml if part == group else yaml.get(part.partition(".")[2], {})
                own = part.partition(".")[0] == group
                known = found[part] | (arguments_of(yaml["_target_"]) if group == "opt" else set())
                lacking |= {f"{part}.{key}" for key in block if own and key not in known}
    assert lacking == {"task.defaults"}


def arguments_of(target):
    """The arguments of an optimizer's class, which its own documentation describes."""
    module, _, name = target.rpartition(".")
    return set(inspect.signature(getattr(import_module(module), name)).parameters)


def test_ranges_and_choices_are_shown():
    page = keys.page()
    assert "| `warmup` | number from 0 to 1 |" in page
    assert "| `precision` | `fp32` \\| `bf16` |" in page
    assert "| `seed` | whole number from 0 |" in page
    assert "| `reader`\\* | text |" in page  # a yaml alone may set it
