"""What configurations need of data and weights, and its fetching before the first run starts."""

from collections.abc import Collection, Iterable
from pathlib import Path

from runner import CONFIGS, ROOT, cli, identity
from runner import config as configuration
from runner.config import Config
from runner.yamls import read_yaml
from tasks.data.sources import fetch, fetched_folder
from tasks.data.specs import Archive, DataSpec, FilesSpec, WeightsSpec
from tasks.data.storage import sealed_metadata
from tasks.errors import UserError


def fetch_all(configs: Iterable[Config], kinds: Collection[str] = ("data", "weights")) -> list[str]:
    """Fetch all data and weights of these configurations; return what is here, and where.

    What the user gives or has to put there is read, too, but for what is not of these `kinds`.
    Each is fetched once.

    Raises:
        UserError: if anything is missing, when all else has been fetched: it says what to do.
    """
    here: dict[str, None] = {}
    problems: dict[str, UserError] = {}
    seen = []
    for config in configs:
        data_dir = config.execution.data
        for kind, block in identity.blocks(config.spec).items():
            if kind not in kinds or (block, data_dir) in seen:
                continue
            seen.append((block, data_dir))
            try:
                here[f"{block.title}: {_fetch(block, data_dir)}"] = None
            except UserError as error:
                problems[str(error)] = error
    if len(problems) == 1:
        raise problems.popitem()[1]
    for problem in problems.values():
        cli.report(problem)
    if problems:
        raise UserError(f"{len(problems)} of the data and weights are missing: see above")
    return list(here)


def sources(configs: Iterable[Config]) -> list[Archive]:
    """Return the archives of the data and weights of these configurations, each once.

    What comes from a hub, through torchvision or by hand has none.
    """
    blocks = (block for config in configs for block in _to_fetch(config))
    return list(dict.fromkeys(block.archive for block in blocks if block.archive))


def from_elsewhere(configs: Iterable[Config], data_dir: Path) -> list[str]:
    """Return what a hub, torchvision or an address is still to give: of sizes not known here."""
    missing: dict[str, None] = {}
    for config in configs:
        for block in _to_fetch(config):
            folder = None if block.archive else _folder(block, data_dir)
            if folder is not None and sealed_metadata(folder) is None:
                missing[block.title] = None
    return list(missing)


def everything() -> tuple[list[Archive], list[str]]:
    """Return the archives of all tasks and models, and of the package that ours is compared to.

    And the names of the tasks and models whose data and weights come from elsewhere. They are read
    off the yamls themselves: to compose each configuration would take a minute.
    """
    archives, others = [], []
    kinds: tuple[tuple[str, str, type[FilesSpec]], ...]
    kinds = (("task", "data", DataSpec), ("model", "weights", WeightsSpec))
    for group, key, kind in kinds:
        for name in configuration.options(group):
            if content := read_yaml(CONFIGS / group / f"{name}.yaml").get(key):
                block = kind.parse(content, f"{group}.{key}")
                if block.archive:
                    archives.append(block.archive)
                elif not (block.source or block.is_users):  # else a package or the user has it
                    others.append(name)
    published = read_yaml(ROOT / "benchmarks/dog_optimizer.yaml")["source"]
    return list(dict.fromkeys([*archives, Archive.parse(published, "source")])), others


def _to_fetch(config: Config) -> list[FilesSpec]:
    """Return the blocks of which the user has no copy."""
    return [block for block in identity.blocks(config.spec).values() if not block.path]


def _fetch(block: FilesSpec, data_dir: Path) -> Path | str:
    """Fetch data or weights, if they are not here yet; return where they are."""
    from tasks.data import hub, readers

    if block.archive and not block.path:
        return fetch(block.archive, data_dir)
    if not isinstance(block, DataSpec):
        return hub.copy_of(block, data_dir).folder
    folder = None if block.path else _folder(block, data_dir)
    if folder is None or sealed_metadata(folder) is None:
        # Only its reader knows what there must be; what can be fetched, it fetches.
        readers.read(block, data_dir)
    return block.path or folder or "here"


def _folder(block: FilesSpec, data_dir: Path) -> Path | None:
    """Return where what is fetched will be; None for what is not."""
    from tasks.data import hub
    from tasks.data import local_copies as copies

    if block.archive:
        return fetched_folder(block.archive, data_dir)
    if block.hub:
        return hub.fetched_folder(block, data_dir)
    if isinstance(block, DataSpec) and (block.torchvision or block.url):
        return copies.fetched_folder(block, data_dir)
    return None
