"""The page holds the numbers of the tables, leads to every run, and nothing in it is markup."""

import gzip
import json
import os
import re
import shlex
import sys
import time
from base64 import b64decode
from dataclasses import replace
from html import escape, unescape
from types import SimpleNamespace

import made_up_records as made_up
import numpy as np
import pandas as pd
import pytest
from conftest import LONG_ONLY, ROOT
from runs_of_page import COSTS, EVIL, many_runs, page_report, page_runs

from analysis.all_tables import all_pages
from analysis.comparison import compare_problems
from analysis.html import page
from analysis.html.findings import best_lines, in_short, start_for_all
from analysis.html.report import Answer, report_of
from analysis.html.runs import KnownRuns, run_columns
from analysis.tables.leaderboard import step_costs
from analysis.tables.page import signed
from runner import cli, config
from runner.archive import open_archive
from runner.run_record import RunRecord
from scripts import report as script
from tasks.errors import UserError

pytest.importorskip("vl_convert", reason="the extra `report` is not installed")


@pytest.fixture(scope="module")
def runs():
    return page_runs()


@pytest.fixture(scope="module")
def report():
    return page_report()


@pytest.fixture(autouse=True, scope="module")
def _no_library():
    """The charts' JavaScript takes seconds to make; test_page_in_browser.py has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "library", lambda: "")
        yield


@pytest.fixture(scope="module")
def html(report):
    return page.render(report)


@pytest.fixture(scope="module")
def pages(runs):
    """The tables as Markdown, by their stems."""
    made = all_pages(compare_problems(runs.frame), runs.frame, COSTS)
    tables = (table for page in made for table, _ in page.walk())
    return {table.stem: table for table in tables if table.shown is not None}


ANSWER = Answer(["Use DoG, and <b>tune</b> nothing."], "optimizer = DoG(params)")


@pytest.fixture(scope="module")
def comparison(runs):
    """The report of a comparison on one's own data."""
    mine = runs.frame["run_id"][runs.frame["task"] == "reviews_long"]
    return report_of(runs.only({*mine}), "photos", ANSWER)


def data_in(html):
    """What the page holds for its script."""
    packed = re.search(r'id="data">(.*?)</script>', html)[1]
    return json.loads(gzip.decompress(b64decode(packed)))


def markdown_rows(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines]


def cells_in(html):
    """The text of each cell, line by line: of the first table of the page, or of a part of it."""
    table = html[html.index("<table") : html.index("</table>")]
    lines = [
        re.findall(r"<t[hd]\b.*?</t[hd]>", line, re.DOTALL) for line in table.split("<tr>")[1:]
    ]
    return [[unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in line] for line in lines]


def rows_of(html, columns):
    head, *rows = cells_in(html)
    places = [head.index(column) for column in columns]
    return [[row[place] for place in places] for row in rows]


def test_the_numbers_are_those_of_the_markdown_tables(pages, html):
    shown = data_in(html)
    tables = {problem["stem"]: problem["table"] for problem in shown["problems"]}
    tables |= {
        f"sensitivity-{problem['stem']}": problem["sensitivity"]
        for problem in shown["problems"]
        if problem["sensitivity"]
    }
    for name in re.findall(r'<details id="table-([^"]+)"', html):
        tables[name] = html[html.index(f'<details id="table-{name}"') :]
    for *choice, place in shown["selections"]:
        if choice[2:] == ["", "", ""] and place is not None:
            kind = choice[1].replace("-", "_")
            tables[f"leaderboard-{choice[0]}-{kind}"] = shown["boards"][place]["table"]
    compared = pages.keys() - {"summary"}  # the tables of the problems below each other
    assert compared <= tables.keys() and len(compared) > 6
    for stem in compared:
        head, _, *rows = markdown_rows(pages[stem].body)
        assert rows_of(tables[stem], head) == rows, stem


def test_verdicts_of_dog_are_those_of_the_tables_of_models(pages, report):
    lines = pages["models-lite"].exact
    lines = lines[lines["verdict_these"].ne("") & lines["these_low"].notna()]
    duels = report.duels["lite"]
    found = {
        (duels["scopes"][scope], *duels["rivals"][rival][:2]): (red, interval, verdict)
        for scope, subject, rival, red, interval, verdict, *_ in duels["cells"]
        if duels["subjects"][subject][0] == "dog"
    }
    seen = 0
    for line in lines.to_dict("records"):
        scope = line["model"] + (" probe" if line["budget"] == "probe" else "")
        key = (scope, line["optimizer"], line["row"])
        if key in found:
            low, high = signed(line["these_low"]), signed(line["these_high"])
            expected = (signed(line["red_median"]), f"{low} to {high}", line["verdict_these"])
            assert found[key] == expected
            seen += 1
    assert seen >= 2


def test_four_questions_are_answered_first(html):
    """Those that a newcomer asked: of a rival in a domain, of all tasks, of starts, of a step."""
    text = re.sub(r"<[^>]+>", " ", html[html.index("<main") : html.index('id="verdicts"')])
    text = " ".join(text.split())
    for words in (
        r"Is L-DoG as good as a tuned optimizer\? Not without loss, by these runs: L-DoG is worse "
        r"than tuned SGD \(fine-tuning\)\.",
        r"on against tuned SGD against tuned Adam fine-tuning cannot tell, n = 2 ¹ \+\d",
        r"language fine-tuning worse, n = 1 ¹ \+10\.5 % \(\+6\.3 to \+31\.8\)",
        r"as good as a tuned optimizer\? That cannot be told from these runs\.",
        r"With the statistics of batch normalization trained \(shirts · [^)]*\), the best of 3 "
        r"starts is reps_rel=0\.0001\. test accuracy % 50\.00; 1e-06: 30\.00, 0\.01: 40\.00; 1 s",
        r"tried with all of these, reps_rel=0\.0001 loses least: at most 0\.0 points",
        r"DoG: 1\.50 × the time of a step",
        r"A tuned optimizer was run at every learning rate of a grid",
        r"Best of those with several seeds on each problem: SGD \(calibrated\)\. Its error is "
        r"typically [\d.]+ % smaller than",
    ):
        assert re.search(words, text), words


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            {"worse": ["SGD", "Adam"], "inconclusive": ["RMS"]},
            "Not without loss, by these runs: DoG is worse than tuned SGD (probes) and tuned Adam "
            "(probes). Against tuned RMS (probes) it cannot be told.",
        ),
        (
            {"non-inferior": ["SGD"], "better": ["Adam"]},
            "Yes, by these runs: DoG is non-inferior to tuned SGD (probes), and better than tuned "
            "Adam (probes).",
        ),
        (
            {"better": ["SGD"], "worse": ["Adam"]},
            "Not without loss, by these runs: DoG is worse than tuned Adam (probes), and better "
            "than tuned SGD (probes).",
        ),
        ({"no verdict": ["SGD"]}, "That cannot be told from these runs."),
    ],
)
def test_the_answer_in_short_names_each_rival_with_its_verdict(found, expected):
    scope = SimpleNamespace(name="probes")
    duels = [
        SimpleNamespace(subject=("dog", ""), rival=(name, ""), verdict=verdict, scope=scope)
        for verdict, names in found.items()
        for name in names
    ]
    names = {("dog", ""): "DoG"} | {duel.rival: f"tuned {duel.rival[0]}" for duel in duels}
    assert in_short(duels, names) == expected


def test_the_best_optimizer_is_one_that_has_an_interval():
    lines = [("Lucky", "tuning_free", 0.2, np.nan), ("Sure", "tuning_free", 0.1, 0.05)]
    lines.append(("DoG", "reference", 0.0, np.nan))
    frame = pd.DataFrame(lines, columns=["label", "role", "red_iqm", "red_iqm_low"])
    frame = frame.assign(red_iqm_high=0.15, row="default", runs=2, tasks=2, runs_elsewhere=0)
    board = SimpleNamespace(frame=frame, kind="probes", problems=["a", "b"])
    best, _, place, last = [each.text for each in best_lines(board, "leaderboard").statements]
    assert best.startswith("Best of those with several seeds on each problem: Sure.")
    assert place.startswith("DoG is number 2 of these 2.") and "none beats Sure (" in place
    assert last.startswith("1 with one seed ") and last.endswith("Lucky would stand above DoG.")


def test_one_start_for_several_networks_is_that_which_loses_least_on_the_worst():
    # By start, how far it is behind the best one of each network.
    behind = pd.DataFrame({"one": [0.02, 0.0, 0.7], "other": [0.3, 0.01, 0.0]}, [1e-4, 1e-3, 1e-2])
    (said,) = start_for_all(behind, True, "figure")
    assert "reps_rel=0.001 loses least: at most 1.0 points" in said.text
    assert said.text.endswith(" 0.01, the best of one, loses 70.0 on another.")
    assert not [*start_for_all(behind[["one"]], True, "figure")]


def test_every_answer_links_to_what_it_rests_on(report):
    said = [each for finding in report.findings for each in finding.statements]
    said += [cell for each in report.findings for _, cells in each.rows for cell in cells if cell]
    assert all(each.link for each in said if each.numbers)
    links = [each.link for each in said if each.link]
    charts = {f"figure-{chart.name}" for chart in report.normalization}
    tables = {f"table-{table.name}" for table in report.tables}
    duels = report.duels["lite"]
    rows = {
        (*subject[:2], *rival[:2]) for subject in duels["subjects"] for rival in duels["rivals"]
    }
    assert links
    for link in links:
        kind, *parts = link.split("/")
        known = kind in {"leaderboard", *charts, *tables}
        assert known or (kind == "duel" and tuple(parts[1:]) in rows), link


def test_names_that_are_markup_come_out_as_text(html):
    """Of a task, a network, an optimizer, a warning and a title."""
    assert EVIL not in html
    elements = re.findall(r"<script[^>]*>", html)
    assert len(elements) == 3 and html.count("</script>") == 3
    shown = data_in(html)
    assert EVIL in shown["runs"]["trouble"]["values"] and f"<h1>All {escape(EVIL)}</h1>" in html
    tables = [each["table"] for each in (*shown["problems"], *shown["boards"])]
    assert any(escape(EVIL) in table for table in tables)
    assert not any("<script" in table for table in tables)


def test_the_page_asks_for_nothing(html):
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", html)
    assert "default-src 'none'" in html and "@import" not in html and "url(" not in html


def test_each_cell_leads_to_its_runs_and_a_crash_is_among_them(runs, report):
    ids = runs.frame["run_id"].tolist()
    problem = next(each for each in report.problems if each.stem.startswith("photos-efficient"))
    tuned = problem.cells["sgd/instance-tuned"]
    status = [runs.frame["status"][row] for row in tuned["runs"]]
    assert status.count("failed") == 1 and len(status) == 3
    assert {runs.frame["seed"][row] for row in tuned["tuning"]} == {100}
    assert len({ids[row] for row in tuned["runs"]}) == 3


def test_a_choice_without_the_task_rests_on_runs_of_the_others(runs, report):
    problem = next(each for each in report.problems if each.stem.startswith("photos-efficient"))
    tasks = {
        row: {runs.frame["task"][place] for place in problem.cells[f"sgd/{row}"]["tuning"]}
        for row in ("default", "instance-tuned", "leave-one-task-out", "calibrated")
    }
    others = {"reviews_long"}
    assert tasks == {"default": set(), "instance-tuned": {"photos"},
                     "leave-one-task-out": others, "calibrated": others}  # fmt: skip


def test_a_comparison_is_of_its_own_runs_with_its_own_words_on_top(comparison, tmp_path, runs):
    assert len(comparison.problems) == 1
    assert len(comparison.runs["seed"]["index"]) == (runs.frame["task"] == "reviews_long").sum()
    text = page.render(comparison)
    assert text.index("Use DoG, and &lt;b&gt;tune") < text.index('id="verdicts"')
    assert "optimizer = DoG(params)" in text and "Is DoG as good" not in text
    assert sections_of(text) == {"answer", "verdicts", "leaderboard", "problems", "tables", "runs"}


def sections_of(text):
    """The sections of a page, all of which its navigation links to."""
    sections = {*re.findall(r'<section id="([a-z]+)"', text)}
    navigation = text[text.index("<nav") : text.index("</nav>")]
    assert {*re.findall(r'href="#([a-z]+)"', navigation)} == sections
    return sections


def test_a_section_without_content_is_not_there():
    """Of DoG alone, which has nobody to be compared with."""
    alone = KnownRuns([RunRecord.of(made_up.record(0.8, opt="dog", task="photos"))])
    made = report_of(alone, "photos", ANSWER)
    assert sections_of(page.render(made)) == {"answer", "problems", "tables", "runs"}
    assert sections_of(page.render(replace(made, answer=None))) == {"problems", "tables", "runs"}


def test_without_javascript_there_are_the_leaderboard_and_the_tables_over_all_problems(html, pages):
    text = re.sub(r"<script.*", "", html, flags=re.DOTALL)
    tables = re.findall(r"<table.*?</table>", text, re.DOTALL)
    lines = [sorted(line) for table in tables for line in cells_in(table)]
    for stem in ("leaderboard-lite-fine_tuning", "models-lite"):
        for row in pages[stem].shown.to_numpy().tolist():
            assert sorted(map(str.strip, row)) in lines, stem


def test_a_run_takes_at_most_200_bytes_of_the_page():
    """So that 6,000 runs, their problems and the charts' JavaScript stay below 3 MB."""
    runs = many_runs(600)
    columns = run_columns(runs, {})
    assert len(columns["curve_loss"]) == 600
    size = len(page.packed(columns))
    assert size < 200 * 600


def test_the_same_runs_give_the_same_bytes(report, html):
    assert page.render(report) == html


@pytest.mark.parametrize("kind", ["seed", "start", "rate", "steps", "network", "lora"])
def test_the_command_of_a_run_gives_its_id(kind):
    """Of archived runs that differ from the defaults in one thing or another."""
    chosen = {
        "seed": lambda run: run.opt_default and run.settings["seed"] == 1,
        "start": lambda run: "reps_rel" in run.opt_changed,
        "rate": lambda run: "lr" in run.opt_changed,
        "steps": lambda run: run.settings["train"]["steps"] == 125,
        "network": lambda run: run.settings["model"].get("batch_norm") == "train",
        "lora": lambda run: run.settings["model"].get("lora") == 8,
    }[kind]
    run = next(filter(chosen, open_archive(ROOT / "results" / "archive")))
    (command,) = run_columns(KnownRuns([run]), {})["command"]
    assert command.startswith("python run.py ")
    assert config.load(shlex.split(command)[2:]).spec.run_id == run.run_id


def test_an_empty_archive_is_one_clear_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["report.py", "--results", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        cli.main(script.main)
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert said.err.startswith("error: no runs in ") and said.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_the_package_that_holds_the_charts_it_says_what_to_install(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(UserError, match=r"vl_convert.*make setup"):
        page.render(report)


def test_runs_of_a_folder_bring_their_curves(tmp_path):
    record = made_up.record(0.8, opt="dog")
    made_up.write_with_curve(tmp_path / "runs", record, {1: 0.1, 2: 0.2})
    (run,) = KnownRuns.gather(tmp_path / "runs", tmp_path / "archive").records
    assert [line["step"] for line in run.curve] == [1, 1, 2]


LIBRARY_BYTES = 450_000  # of the charts' JavaScript, which the pages here do not hold


@LONG_ONLY
def test_the_archive_is_a_page_in_a_minute_below_3_megabytes_with_6000_runs(tmp_path):
    before = time.process_time()
    archive = ROOT / "results" / "archive"
    costs = step_costs(ROOT / "results" / "benchmarks" / "optimizer_step.csv")
    path = tmp_path / "report.html"
    made = page.write_page(path, KnownRuns.gather(tmp_path / "runs", archive), costs=costs)
    assert time.process_time() - before < 60
    number = len(made.runs["run_id"])
    assert number > 2000
    assert LIBRARY_BYTES + os.path.getsize(path) * 6000 / number < 3e6  # noqa: PTH202
    # And its verdicts are the README's.
    duels = made.duels["lite"]
    readme = (ROOT / "README.md").read_text()
    for rival, name in ((["ldog", "default"], "L-DoG"), (["sgd", "instance-tuned"], "SGD, tuned")):
        place = next(i for i, each in enumerate(duels["rivals"]) if each[:2] == rival)
        row = next(line for line in readme.splitlines() if line.startswith(f"| {name} "))
        for scope, subject, other, red, interval, verdict, over, *_ in duels["cells"]:
            if (duels["scopes"][scope], subject, other) == ("probes", 0, place):
                assert f"{red} ({interval}), n = {len(over)} | **{verdict}**" in " ".join(
                    row.split()
                )
