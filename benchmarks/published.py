"""The authors' package `dog-optimizer`, loaded beside ours."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from omegaconf import OmegaConf

from tasks.data.sources import fetch
from tasks.data.specs import Archive
from tasks.data.storage import default_data_dir

_CONFIG = Path(__file__).with_name("dog_optimizer.yaml")


def source() -> Archive:
    """Return the pinned archive."""
    return Archive.parse(OmegaConf.to_container(OmegaConf.load(_CONFIG).source), "source")


def load() -> ModuleType:
    """Return the package as a module named `published_dog`, fetching it if need be."""
    if "published_dog" not in sys.modules:
        folder = fetch(source(), default_data_dir()) / "dog-optimizer-1.0.3" / "src" / "dog"
        spec = importlib.util.spec_from_file_location(
            "published_dog", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["published_dog"] = module
        spec.loader.exec_module(module)
    return sys.modules["published_dog"]
