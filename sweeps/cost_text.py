"""The cost estimate of a sweep, as its user reads it."""

from collections.abc import Container, Iterator, Sequence

from sweeps.cost import CostEstimate, SweepStage
from sweeps.operations import ASSUMED_TERAFLOPS
from tasks.format import size

_COLUMNS = ("task", "optimizer", "runs", "done", "to do", "time", "estimated from")
_TEXTS = (0, 1, 6)
AGAIN = "to train them again: runs_dir=mine/runs"


def full(cost: CostEstimate) -> str:
    """The estimate with a line for each task and optimizer of each stage."""
    return "\n".join([*map(_table, cost.stages), *_totals(cost)])


def short(cost: CostEstimate) -> str:
    """The estimate in a few lines."""
    return "\n".join([*map(_headline, cost.stages), *_totals(cost)])


def _table(stage: SweepStage) -> str:
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for line in stage.lines:
        to_do = len(line.to_do)
        numbers = map(str, (line.runs, line.runs - to_do, to_do, line.time))
        rows.append((line.task, line.optimizer, *numbers, "; ".join(line.basis)))
    return "\n".join([_headline(stage), *_aligned(rows, _TEXTS), ""])


def _aligned(rows: Sequence[Sequence[str]], left: Container[int]) -> Iterator[str]:
    """The rows as lines of aligned columns; those in `left` begin where the others end."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    forms = [f"{'<' if column in left else '>'}{width}" for column, width in enumerate(widths)]
    for row in rows:
        cells = (format(cell, form) for cell, form in zip(row, forms, strict=True))
        yield ("  " + "  ".join(cells)).rstrip()


def _headline(stage: SweepStage) -> str:
    in_the_end = _in_the_end(stage.least, stage.most)
    to_do = len(stage.to_do)
    done = stage.runs - to_do
    return f"{stage.name}: {stage.runs} runs, {done} done before, {to_do} to do{in_the_end}"


def _totals(cost: CostEstimate) -> Iterator[str]:
    """The lines that are about the whole sweep."""
    least, most = cost.in_the_end
    unknown = f" ({cost.time.unknown} runs without an estimate)" if cost.time.unknown else ""
    where = f"{cost.slots} at once on {cost.estimator.processor}"
    if cost.archived:
        yield f"archived: {cost.archived} of the runs done; {AGAIN}"
    if cost.without_model:
        yield f"export: {cost.without_model} of the runs done have not kept their weights; {AGAIN}"
    yield f"to do: {cost.to_do} runs{_in_the_end(least, most)}"
    yield f"time: {cost.time}{unknown}, {where}{'' if least == most else ', as chosen so far'}"
    yield from _gpu_time(cost)
    yield f"download: {_downloads(cost)}"
    free = "; ".join(f"{size(disk.free)} free for {disk.folder}" for disk in cost.disks)
    yield f"disk: {_disk(cost)}; {free}"
    for disk in cost.disks:
        if disk.needed > disk.free:
            yield (
                f"warning: {disk.folder} needs {size(disk.needed)} and its disk has "
                f"{size(disk.free)} free: make room, or choose another folder with "
                "runs_dir=... or data_dir=..."
            )


def _gpu_time(cost: CostEstimate) -> Iterator[str]:
    """The time of the runs without an estimate on a GPU, where their operations were counted."""
    least, most = (f"{float(f'{hours:.2g}'):,.0f}" for hours in cost.gpu_hours)
    if cost.gpu_hours[1]:
        hours = least if least == most else f"{least} to {most}"
        yield (
            f"GPU time: {hours} h for the runs without an estimate, by counted operations, at "
            f"{ASSUMED_TERAFLOPS:g} TFLOP/s (assumed)"
        )


def _downloads(cost: CostEstimate) -> str:
    sizes = sum(archive.bytes for archive in cost.archives)
    text = f"{size(sizes)} in {len(cost.archives)} archives" if cost.archives else ""
    elsewhere = f"of unknown size: {', '.join(cost.elsewhere)}" if cost.elsewhere else ""
    return "; ".join(filter(None, (text, elsewhere))) or "nothing"


def _disk(cost: CostEstimate) -> str:
    if not cost.to_do:
        return "nothing for runs"
    runs = f"{size(cost.run_bytes)} for runs"
    if cost.unknown_bytes:
        runs = f"at least {runs} ({cost.unknown_bytes} of them of unknown size)"
    if cost.unknown_bytes == cost.to_do:
        runs = "unknown for runs"
    each = "unknown" if cost.checkpoint_bytes is None else size(cost.checkpoint_bytes)
    return f"{runs}, {each} for the checkpoint of each in training"


def _in_the_end(least: int, most: int) -> str:
    return "" if least == most else f" as chosen so far ({least} to {most} in the end)"
