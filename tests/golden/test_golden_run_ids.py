"""The ids of runs and problems are those of run_ids.txt; :mod:`frozen` says how to write it."""

import frozen

PATH = frozen.FOLDER / "run_ids.txt"


def test_run_ids_and_problem_ids_are_the_golden_ones(tmp_path):
    golden = PATH.read_text().splitlines()
    lines = [line.partition(" -> ")[0] for line in golden if line]
    # An empty folder of data: copies that somebody has put there would be part of the ids.
    ids = [frozen.identify([*line.split(), f"data_dir={tmp_path}"]) for line in lines]
    found = [f"{line} -> {' '.join(names)}" for line, names in zip(lines, ids, strict=True)]
    if frozen.UPDATE:
        PATH.write_text("".join(f"{line}\n" for line in found))
        golden = found
    assert len(golden) >= 150
    assert found == golden
