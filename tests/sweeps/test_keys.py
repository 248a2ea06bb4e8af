"""docs/keys.md: every key of configs/ is described there, as its spec does."""

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
    classes_own = {"betas", "nesterov"}  # arguments of the optimizers' classes
    lacking = set()
    for group in GROUPS:
        for path in (CONFIGS / group).glob("*.yaml"):
            yaml = OmegaConf.to_container(OmegaConf.load(path))
            for part in (group, "task.data", "model.weights"):
                block = yaml if part == group else yaml.get(part.partition(".")[2], {})
                own = part.partition(".")[0] == group
                lacking |= {f"{part}.{key}" for key in block if own and key not in found[part]}
    assert lacking - {"task.defaults"} == {f"opt.{key}" for key in classes_own}


def test_ranges_and_choices_are_shown():
    page = keys.page()
    assert "| `warmup` | number from 0 to 1 |" in page
    assert "| `precision` | `fp32` \\| `bf16` |" in page
    assert "| `seed` | whole number from 0 |" in page
    assert "| `reader`\\* | text |" in page  # a yaml alone may set it
