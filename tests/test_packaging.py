"""What is installed is the optimizers alone; the suite runs from its checkout, wherever one is."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD = "from setuptools import build_meta; print(build_meta.build_wheel({!r}))"
TRAIN = """
import importlib.util, torch
from dog import DoG
assert all(not importlib.util.find_spec(name) for name in ("tasks", "runner", "analysis"))
p = torch.nn.Parameter(torch.ones(2))
optimizer = DoG([p])
p.square().sum().backward()
optimizer.step()
print(importlib.util.find_spec("dog").origin, p.tolist() != [1, 1])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built in a copy of it."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("README.md", "LICENSE"):
        copy(ROOT / name, folder)
    project = (ROOT / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(project.replace('"-O3"', '"-O0"'))  # saves ten seconds
    for name in ("dog", "tasks", "runner", "analysis"):
        copytree(ROOT / name, folder / name, ignore=ignore_patterns("__pycache__", "*.so"))
    subprocess.run(
        [sys.executable, "-c", BUILD.format(str(folder))], cwd=folder, check=True,
        capture_output=True,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


def test_a_wheel_holds_the_optimizers_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"dog"}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "dog").rglob("*.py")}
    assert modules | {"dog/py.typed"} <= set(names)


def test_a_wheel_trains_in_an_environment_that_has_torch_alone(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install], check=True)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    # Torch lies among our packages; what is installed as editable is not seen on this way.
    (site / "torch.pth").write_text(sysconfig.get_path("purelib"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", TRAIN], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout.split() == [str(site / "dog" / "__init__.py"), "True"], done.stderr


# Import what each program does, as if it alone were started; print whose code that is.
IMPORT = """
import runpy, sys
from pathlib import Path
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f)]  # as if not installed
installed = sys.path[1:]
for program in sys.argv[1:]:
    sys.path[:] = [str(Path(program).parent), *installed]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("runner", "sweeps")]:
        del sys.modules[name]
    runpy.run_path(program)
    print(sys.modules["runner"].__file__)
"""


def test_programs_run_the_code_of_their_own_checkout(tmp_path):
    programs = [ROOT / "run.py", ROOT / "compare.py", *sorted((ROOT / "scripts").glob("*.py"))]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, *programs], cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = dict(zip(programs, done.stdout.splitlines(), strict=True)), done.stderr
    assert found == (dict.fromkeys(programs, str(ROOT / "runner" / "__init__.py")), "")
