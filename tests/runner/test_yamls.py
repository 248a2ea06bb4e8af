"""Yamls as they stand: with what they share, and with Hydra's numbers."""

from runner import config
from runner.yamls import read_yaml


def test_what_yamls_share_is_read_with_each_of_them():
    data = read_yaml(config.CONFIGS / "task" / "cola.yaml")["data"]
    assert data["reader"] == "hub_texts" and data["columns"] == ["sentence"]
    assert set(data["hub"]) == {"repository", "revision", "licence", "files"}


def test_numbers_are_those_that_hydra_reads(tmp_path):
    """PyYAML alone reads 1e-6 as a text."""
    text = "a: 1e-6\nb: 1.0e-6\nc: -2E+3\nd: 1e\ne: 12\nf: 0.5\ng: '1e-6'\n"
    (tmp_path / "some.yaml").write_text(text)
    found = read_yaml(tmp_path / "some.yaml")
    assert found == {"a": 1e-6, "b": 1e-6, "c": -2000.0, "d": "1e", "e": 12, "f": 0.5, "g": "1e-6"}
    assert found == config.OmegaConf.load(tmp_path / "some.yaml")
