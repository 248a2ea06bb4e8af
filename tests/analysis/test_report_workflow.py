"""The workflow that publishes the page installs all that scripts/report.py imports."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import made_up_records as made_up
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# The first argument names what the workflow does not install. The charts' JavaScript takes seconds
# to make, and needs nothing more.
REPORT = """
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

names = {*sys.argv.pop(1).split()}
sys.meta_path.insert(0, Absent())
from analysis.html import page
page.library = lambda: ""
runpy.run_path("scripts/report.py", run_name="__main__")
"""


def with_requirements(names):
    """The names of some packages and of all that is installed with them."""
    found, waiting = set(), [*names]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        try:
            wanted = map(Requirement, requires(name) or ())
        except PackageNotFoundError:  # of another system
            continue
        waiting += [
            each.name for each in wanted if not each.marker or each.marker.evaluate({"extra": ""})
        ]
    return found


def test_it_installs_what_the_report_imports(tmp_path):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "report.yml").read_text())
    commands = [step.get("run", "") for step in workflow["jobs"]["publish"]["steps"]]
    (install,) = [line for line in commands if line.startswith("pip install")]
    words = install.replace("-c constraints.txt", "").split()[2:]
    for opt in ("dog", "sgd"):
        for seed in (100, 0, 1):
            made = made_up.record(0.8, opt=opt, seed=seed, task="photos")
            made_up.write_with_curve(tmp_path / "runs", made, {1: 0.1, 2: 0.2})
    installed = with_requirements(words)
    absent = [
        name
        for name, packages in packages_distributions().items()
        if not {canonicalize_name(package) for package in packages} & installed
    ]
    assert "torch" in absent and "jinja2" not in absent
    command = [sys.executable, "-c", REPORT, " ".join(absent), "--results", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "report.html").is_file(), done.stderr
