"""docs/keys.md describes every key of configs/, and README names every optimizer."""

import inspect

from hydra.utils import get_object
from omegaconf import OmegaConf

from runner.config import CONFIGS, GROUPS
from sweeps import keys


def test_the_pages_are_what_specs_and_yamls_say():
    """If this fails: python -m sweeps.keys"""
    assert keys.KEYS.read_text() == keys.page() and keys.README.read_text() == keys.readme()


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
                known = found[part] | (arguments(yaml["_target_"]) if part == "opt" else set())
                lacking |= {f"{part}.{key}" for key in block if own and key not in known}
    assert lacking <= {"task.defaults", "model.defaults"}


def arguments(target):
    """The names of the arguments of a class, or of a function that returns an optimizer."""
    found = get_object(target)
    functions = (
        [kind.__init__ for kind in inspect.getmro(found)] if inspect.isclass(found) else [found]
    )
    return {name for function in functions for name in inspect.signature(function).parameters}


def test_ranges_and_choices_are_shown():
    page = keys.page()
    assert "| `warmup` | number from 0 to 1 |" in page
    assert "| `precision` | `fp32` \\| `bf16` |" in page
    assert "| `seed` | whole number from 0 |" in page
    assert "| `reader`\\* | text |" in page  # a yaml alone may set it
