"""The price of a sweep, as its user reads it."""

from collections.abc import Container, Iterator, Sequence

from sweeps.cost import Price, Stage
from sweeps.operations import ASSUMED_TERAFLOPS
from tasks.format import duration, size

_COLUMNS = ("task", "optimizer", "runs", "done", "to do", "time", "estimated from")
_TEXTS = (0, 1, 6)


def whole(price: Price) -> str:
    """The price with a line for each task and optimizer of each stage."""
    return "\n".join([*map(_table, price.stages), *_totals(price)])


def short(price: Price) -> str:
    """The price in a few lines."""
    return "\n".join([*map(_headline, price.stages), *_totals(price)])


def time(price: Price) -> str:
    """How long all that is to do will take."""
    return _time(price.seconds, price.unknown, price.to_do)


def _table(stage: Stage) -> str:
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for line in stage.lines:
        runs, done, to_do = map(str, (line.runs, line.runs - line.to_do, line.to_do))
        time = _time(line.seconds, line.unknown, line.to_do)
        rows.append((line.task, line.optimizer, runs, done, to_do, time, "; ".join(line.basis)))
    return "\n".join([_headline(stage), *_aligned(rows, _TEXTS), ""])


def _aligned(rows: Sequence[Sequence[str]], left: Container[int]) -> Iterator[str]:
    """The rows as lines of aligned columns; those in `left` begin where the others end."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    forms = [f"{'<' if column in left else '>'}{width}" for column, width in enumerate(widths)]
    for row in rows:
        cells = (format(cell, form) for cell, form in zip(row, forms, strict=True))
        yield ("  " + "  ".join(cells)).rstrip()


def _headline(stage: Stage) -> str:
    in_the_end = _in_the_end(stage.least, stage.most)
    done = stage.runs - stage.to_do
    return f"{stage.name}: {stage.runs} runs, {done} done before, {stage.to_do} to do{in_the_end}"


def _totals(price: Price) -> Iterator[str]:
    """The lines that are about the whole sweep."""
    least, most = price.in_the_end
    unknown = f" ({price.unknown} runs without an estimate)" if price.unknown else ""
    where = f"{price.machine.slots} at once on {price.machine.processor}"
    yield f"to do: {price.to_do} runs{_in_the_end(least, most)}"
    yield f"time: {time(price)}{unknown}, {where}{'' if least == most else ', as chosen so far'}"
    yield from _gpu_time(price)
    yield f"download: {_downloads(price)}"
    free = "; ".join(f"{size(place.free)} free for {place.folder}" for place in price.places)
    yield f"disk: {_disk(price)}; {free}"
    for place in price.places:
        if place.needed > place.free:
            yield (
                f"warning: {place.folder} needs {size(place.needed)} and its disk has "
                f"{size(place.free)} free: make room, or choose another folder with "
                "runs_dir=... or data_dir=..."
            )


def _gpu_time(price: Price) -> Iterator[str]:
    """The time of the runs without an estimate on a GPU, where their operations were counted."""
    least, most = (f"{float(f'{hours:.2g}'):,.0f}" for hours in price.gpu_hours)
    if price.gpu_hours[1]:
        hours = least if least == most else f"{least} to {most}"
        yield (
            f"GPU time: {hours} h for the runs without an estimate, by counted operations, at "
            f"{ASSUMED_TERAFLOPS:g} TFLOP/s (assumed)"
        )


def _downloads(price: Price) -> str:
    sizes = sum(archive.bytes for archive in price.archives)
    text = f"{size(sizes)} in {len(price.archives)} archives" if price.archives else ""
    elsewhere = f"of unknown size: {', '.join(price.elsewhere)}" if price.elsewhere else ""
    return "; ".join(filter(None, (text, elsewhere))) or "nothing"


def _disk(price: Price) -> str:
    if not price.to_do:
        return "nothing for runs"
    runs = f"{size(price.run_bytes)} for runs"
    if price.unknown_bytes:
        runs = f"at least {runs} ({price.unknown_bytes} of them of unknown size)"
    if price.unknown_bytes == price.to_do:
        runs = "unknown for runs"
    each = "unknown" if price.checkpoint_bytes is None else size(price.checkpoint_bytes)
    return f"{runs}, {each} for the checkpoint of each in training"


def _in_the_end(least: int, most: int) -> str:
    return "" if least == most else f" as chosen so far ({least} to {most} in the end)"


def _time(seconds: float, unknown: int, to_do: int) -> str:
    if not to_do:
        return "none"
    if unknown == to_do:
        return "unknown"
    return f"at least {duration(seconds)}" if unknown else duration(seconds)
