"""What the README and the docstrings show works as it stands there."""

import re
from pathlib import Path

import pytest
import torch
import warm
from torch import nn

from analysis import records
from analysis.findings.archived import Archived
from analysis.findings.values import filled
from runner import config
from sweeps import plan

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RUNS = re.findall(r"python run\.py ([^#\n`]*)", README)
CONFIG_RUNS = [
    line
    for path in sorted(config.CONFIGS.rglob("*.yaml"))
    for line in re.findall(r"# python run\.py ([^#\n]*)", path.read_text())
]


@pytest.mark.parametrize("command", sorted({*RUNS, *CONFIG_RUNS}))
def test_every_run_command_is_a_valid_one(command):
    words = [word for word in command.split() if word != "-m"]
    config.check_names(words)
    if "-m" not in command:
        config.load(words)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"SWEEP=(\w+)", README))))
def test_every_sweep_command_is_a_valid_one(name):
    assert plan.load(name).tuning()


@pytest.mark.parametrize("target", re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))
def test_every_make_target_is_there_and_documented(target):
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


def headings(page):
    """The anchors of a page's headings, as the web page of a repository makes them."""
    for heading in re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE):
        yield re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_every_link_leads_to_a_file_or_a_heading(page):
    page = ROOT / page
    for link in re.findall(r"\]\((?!http)([^)]*)\)", page.read_text()):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def test_pages_say_what_the_archive_gives():
    """The numbers, intervals and verdicts of README.md and docs/, by `make tables`."""
    archived = Archived(records.of_archive(ROOT / "results" / "archive"))
    for page, text in filled(ROOT, archived).items():
        assert text == (ROOT / page).read_text("utf-8"), page


def test_training_loop_trains(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    model = nn.Linear(2, 1)
    seen = []
    names = {
        "model": model,
        "batches": [(torch.ones(4, 2), torch.ones(4, 1))] * 5,
        "loss_function": nn.functional.mse_loss,
        "evaluate": seen.append,
    }
    before = model.weight.detach().clone()
    exec(code, names)
    assert not torch.equal(model.weight, before) and isinstance(seen[0], nn.Linear)
    assert "eta" in capsys.readouterr().out


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").glob("*.py")))
def test_every_script_starts_from_the_projects_folder(script, tmp_path):
    """An unknown task, sweep or folder: the script has come as far as to read its words."""
    words = {
        "tables.py": ["--results", str(tmp_path)],
        "report.py": ["--results", str(tmp_path)],
        "paper_tables.py": ["--results", str(ROOT / "README.md")],  # no folder to write to
    }.get(script, ["nothing-of-this-name"])
    done = warm.run([f"scripts/{script}", *words])
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
