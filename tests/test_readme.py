"""What the README and the docstrings show works as it stands there."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from torch import nn

from analysis import records
from analysis.choice import DEFAULT, MAIN_ROW
from analysis.findings.accuracies import list_guesses
from analysis.findings.archived import ADAMW, AUTO, DOG, LDOG, SGD, Archived
from analysis.findings.headline import best_rivals
from analysis.findings.longer import PAIRS, rows
from analysis.findings.pairs import Evidence, judged
from analysis.findings.problems import name_of
from analysis.findings.values import filled
from analysis.kinds import FINE_TUNING, KINDS, PROBES, SAME_TEXTS
from analysis.roles import TUNED
from analysis.statistics import LEAST_TASKS
from analysis.tables.starts import regrets_of, regrets_of_rules
from runner import archive, config
from sweeps import plan
from sweeps.request import read_request

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = "\n".join([README, *(page.read_text() for page in sorted(ROOT.glob("docs/*.md")))])
RUNS = re.findall(r"python run\.py (?!\.\.\.)([^#\n`]+)", PAGES)
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


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"python compare\.py ([^#\n`]+)", PAGES)))
)
def test_every_comparison_is_a_valid_one(command):
    assert read_request(command.split()).data


@pytest.mark.parametrize("name", sorted(set(re.findall(r"SWEEP=(\w+)", README))))
def test_every_sweep_command_is_a_valid_one(name):
    assert plan.load(name).tuning()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"SWEEP=(\w+)", PAGES))))
def test_every_sweep_that_a_page_names_is_there(name):
    assert (plan.SWEEPS / f"{name}.yaml").exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)", PAGES, re.M))))
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


@pytest.fixture(scope="module")
def archived():
    """All stored runs."""
    return Archived(records.of_archive(ROOT / "results" / "archive"))


def test_pages_say_what_the_archive_gives(archived):
    """The numbers, intervals and verdicts of README.md and docs/, by `make tables`."""
    for page, text in filled(ROOT, archived).items():
        assert text == (ROOT / page).read_text("utf-8"), page


def test_the_verdicts_that_findings_counts_are_those_of_its_tables():
    """Each once: the claims in short, and the column of both domains, repeat some."""
    page = (ROOT / "docs" / "findings.md").read_text("utf-8")
    block = dict(re.findall(r"<!-- ([\w.]+) -->(.*?)<!-- /\1 -->", page, re.DOTALL))
    cells = [block[name] for name in ("sgd", "ldog", "adam", "averaging", "auto", "rivals")]
    cells += [cell for line in block["domains"].splitlines() for cell in line.split("|")[3:5]]
    assert int(block["verdicts"]) == sum(text.count("**") for text in cells) // 2


# What pages say of the archive in words.


def by_start(archived, task, model, setting):
    """The problem of fine-tuning, and the mean test accuracies of DoG from its starts."""
    (problem,) = (
        each
        for each in archived.by_kind[FINE_TUNING]
        if (each.problem.task, each.problem.model) == (task, model) and setting in each.variant
    )
    _, errors = archived.runs.varied(problem, "dog", "reps_rel")
    return problem, {start: 1 - np.mean([*seeds.values()]) for start, seeds in errors.items()}


def test_on_tweets_ldog_is_better_from_a_smaller_start_and_on_amazon_dog_from_the_default(archived):
    """docs/optimizers.md: in points, and on each seed."""
    gains = {}
    for task in ("tweets", "amazon"):
        (problem,) = (each for each in archived.by_kind[FINE_TUNING] if each.problem.task == task)
        for optimizer in ("dog", "ldog"):
            _, errors = archived.runs.varied(problem, optimizer, "reps_rel")
            gains[task, optimizer] = [
                100 * (errors[1e-4][seed] - errors[1e-6][seed]) for seed in sorted(errors[1e-6])
            ]
            assert len(gains[task, optimizer]) >= 3
    assert min(gains["tweets", "ldog"]) > 0
    assert round(np.mean(gains["tweets", "ldog"])) == 13
    assert abs(np.mean(gains["tweets", "dog"])) < 1
    assert round(np.mean(gains["amazon", "dog"])) == -4


def test_in_longer_training_ldog_is_ahead_of_sgd_on_images_and_behind_on_texts(archived):
    """docs/findings.md, section 9, and README.md."""
    found = rows(archived)
    reds = {
        (row.comparison.problem.task, row.comparison.problem.protocol, pair): row.red(*pair)
        for row in found
        for pair in PAIRS
    }
    images, texts = ("cifar", "fashion_mnist"), ("newsgroups", "rotten_tomatoes")
    assert {task for task, *_ in reds} == {*images, *texts}
    assert {row.seeds for row in found[1::2]} == {"100"}
    ahead = [key for key in reds if key[2] == (LDOG, SGD) and reds[key] < 0]
    assert ahead == [
        ("cifar", "long", (LDOG, SGD)), ("fashion_mnist", "lite", (LDOG, SGD)),
        ("fashion_mnist", "long", (LDOG, SGD)),
    ]  # fmt: skip
    assert all(reds[task, "long", (DOG, SGD)] > 0 for task in (*images, *texts))
    for task in texts:
        for pair in ((DOG, SGD), (LDOG, SGD)):
            assert reds[task, "long", pair] < reds[task, "lite", pair]
    assert all(reds[task, "long", (DOG, SGD)] > reds[task, "lite", (DOG, SGD)] for task in images)
    assert all(reds[task, "long", (LDOG, ADAMW)] > 0.05 for task in ("cifar", "newsgroups"))
    assert abs(reds["rotten_tomatoes", "long", (LDOG, ADAMW)]) < 0.005


def test_the_noise_of_longer_training_is_what_its_section_says():
    """docs/findings.md, section 9, and docs/protocol.md."""
    records = list(archive.read_archive(ROOT / "results" / "archive" / "long.jsonl.gz")[0])
    runs = {
        (run.settings["task"]["name"], run.settings["opt"]["name"], run.settings["seed"],
         run.settings["opt"].get("lr")): run
        for run in records
    }  # fmt: skip
    assert {run.hardware.device for run in records} == {"cuda"}
    seconds = [run.measured.seconds for run in records]
    assert (round(min(seconds)), round(max(seconds))) == (53, 179)
    passes = {
        run.settings["task"]["name"]: 2000
        * run.settings["train"]["batch_size"]
        / run.results.train_examples
        for run in records
    }
    assert {task: round(number, 1) for task, number in passes.items()} == {
        "cifar": 5.7, "fashion_mnist": 4.7, "newsgroups": 5.9, "rotten_tomatoes": 6.1,
    }  # fmt: skip
    for name, mean in (("dog", 83.1), ("ldog", 82.4)):
        reported = [_tested(runs["rotten_tomatoes", name, seed, 1.0])[1] for seed in range(3)]
        assert round(100 * np.mean(reported), 1) == mean
    one = runs["rotten_tomatoes", "dog", 100, 1.0].results
    assert round(500 * (one.validation.last - one.validation.averaged)) == 2
    assert round(100 * one.test.averaged, 1) == 82.8
    for task in ("cifar", "fashion_mnist"):
        larger, best = (runs[task, "sgd", 100, rate] for rate in (0.1, 0.03))
        assert _tested(larger)[1] == pytest.approx(larger.results.test.majority)
        assert _tested(best)[1] > 0.89
    best = {"cifar": 0.03, "fashion_mnist": 0.03, "newsgroups": 0.3, "rotten_tomatoes": 0.1}
    for (task, rate), name in product(best.items(), ("dog", "ldog")):
        dog, sgd = (
            _tested(runs[key])[0] for key in ((task, name, 100, 1.0), (task, "sgd", 100, rate))
        )
        assert 1.5 < _red_error(dog, sgd) < 4.5, (task, name)


def test_the_noise_of_test_examples_in_a_red_is_what_findings_says(archived):
    """docs/findings.md, before section 1: of each problem, with the mean over its seeds."""
    stored = archive.Archive(ROOT / "results" / "archive")
    errors = []
    for comparison in (each for kind in KINDS for each in archived.by_kind[kind]):
        runs_of = {cell.key: [*map(stored.get, cell.run_ids)] for cell in comparison.cells}
        known = [
            [_tested(run)[0] for run in runs_of[line] if run.results.test_correct]  # not the oldest
            for line in (DOG, SGD)
        ]
        if all(known):
            errors.append(_red_error(*(np.mean(each, axis=0) for each in known)))
    assert len(errors) >= 25 and (round(min(errors)), round(max(errors))) == (1, 7)


def _red_error(dog, other):
    """RED's standard error in percent from the test examples, on which each is right or wrong."""
    ratio = (1 - other.mean()) / (1 - dog.mean())
    influence = ((1 - other) - ratio * (1 - dog)) / (1 - dog.mean())
    return 100 * influence.std() / np.sqrt(len(dog))


def _tested(run):
    """Whether each test example was right, by the better weights on validation; and how many."""
    validation = run.results.validation
    kept = validation.averaged is not None and validation.averaged >= validation.last
    name = "averaged" if kept else "last"
    packed = np.frombuffer(bytes.fromhex(run.results.test_correct[name]), dtype=np.uint8)
    right = np.unpackbits(packed)[: run.results.test.examples].astype(float)
    assert right.mean() == pytest.approx(getattr(run.results.test, name), abs=1e-6)
    return right, right.mean()


def by_domain(archived, kind, pair):
    """The verdicts for other seeds on images alone, and on texts alone."""
    for domain in ("vision", "language"):
        alone = archived.evidence(kind, pair).of_domain(domain)
        yield judged(alone.over_problems.on_these_tasks)


def test_over_half_of_the_problems_of_fine_tuning_are_three_tasks_of_images(archived):
    """docs/findings.md."""
    problems = [
        pair.comparison.problem for pair in archived.evidence(FINE_TUNING, (DOG, SGD)).pairs
    ]
    images = [each.task for each in problems if each.domain == "vision"]
    assert len(images) > len(problems) / 2 and len({*images}) == 3
    assert {each.model for each in problems if each.domain == "language"} == {"minilm"}


def test_dog_auto_is_better_than_sgd_on_images_worse_on_texts_and_open_where_it_was_not_found(
    archived,
):
    """docs/findings.md, section 6."""
    assert [*by_domain(archived, FINE_TUNING, (AUTO, SGD))] == ["better", "worse"]
    own = {"cifar · squeezenet", "cifar · efficientnet_lite0", "movies · minilm"}
    own.add("cifar · efficientnet_lite0, model.batch_norm=train")
    evidence = archived.evidence(FINE_TUNING, (AUTO, SGD))
    others = [pair for pair in evidence.pairs if name_of(pair.comparison) not in own]
    assert len(others) == len(evidence.pairs) - len(own)
    assert judged(Evidence(others).over_problems.on_these_tasks) == "inconclusive"


def test_the_rivals_with_six_tasks_of_fine_tuning_are_the_best_of_the_probes_and_prodigy(archived):
    """docs/findings.md, section 7; so no line of README.md's table needs a footnote, ¹."""
    tasks = {
        line: len(archived.evidence(FINE_TUNING, (DOG, line)).of_tasks) for line in archived.rivals
    }
    assert {line for line, number in tasks.items() if number >= LEAST_TASKS} == {
        *best_rivals(archived),
        ("prodigy", DEFAULT),
    }
    assert "¹" not in (ROOT / "README.md").read_text("utf-8")


def test_most_grids_of_fine_tuning_have_four_or_five_rates(archived):
    """README.md, docs/findings.md."""
    for optimizer in ("sgd", "adamw"):
        tried = [len(each.break_even[optimizer].errors) for each in archived.by_kind[FINE_TUNING]]
        assert sum(rates in (4, 5) for rates in tried) > 0.7 * len(tried)


def test_ldog_is_non_inferior_to_dog_on_the_tasks_of_fine_tuning_and_open_on_others(archived):
    """docs/optimizers.md."""
    found = archived.evidence(FINE_TUNING, (LDOG, DOG))
    assert judged(found.over_problems.on_these_tasks) == "non-inferior"
    assert judged(found.for_other_tasks) == "inconclusive"
    assert [*by_domain(archived, FINE_TUNING, (LDOG, DOG))][1] == "inconclusive"


@pytest.mark.parametrize("task", ["tweets", "amazon"])
@pytest.mark.parametrize("optimizer", ["dog", "ldog"])
def test_on_two_language_tasks_a_start_of_1e_2_ruins_every_seed(archived, task, optimizer):
    """docs/start.md, docs/optimizers.md, docs/findings.md."""
    (problem,) = (each for each in archived.by_kind[FINE_TUNING] if each.problem.task == task)
    _, errors = archived.runs.varied(problem, optimizer, "reps_rel")
    guess = 1 - problem.problem.test_majority
    assert len(errors[0.01]) == 3 and min(errors[0.01].values()) == pytest.approx(guess)


@pytest.mark.parametrize("task", ["movies", "newsgroups"])
@pytest.mark.parametrize("optimizer", ["dog", "ldog"])
def test_on_two_language_tasks_the_papers_start_learns_next_to_nothing_in_400_steps(
    archived, task, optimizer
):
    """README.md, docs/findings.md, docs/optimizers.md."""
    (problem,) = (
        each
        for each in archived.by_kind[FINE_TUNING]
        if (each.problem.task, each.problem.steps) == (task, 400) and "lora" not in each.variant
    )
    _, errors = archived.runs.varied(problem, optimizer, "reps_rel")
    guess = 1 - problem.problem.test_majority
    assert len(errors[1e-6]) == 3 and min(errors[1e-6].values()) > guess - 0.06
    learnt = sum(error < guess - 0.1 for error in errors[1e-4].values())
    assert learnt == (4 if (task, optimizer) == ("newsgroups", "dog") else 5)


def test_on_reuters_the_papers_start_for_language_learns_and_the_benchmarks_does_not(archived):
    """README.md, docs/findings.md, docs/optimizers.md, docs/protocol.md."""
    (problem,) = (
        each
        for each in archived.by_kind[FINE_TUNING]
        if (each.problem.task, each.problem.steps) == ("reuters_r8", 400)
    )
    guess = 1 - problem.problem.test_majority
    errors = {name: archived.runs.varied(problem, name, "reps_rel")[1] for name in ("dog", "ldog")}
    for name in ("dog", "ldog"):
        assert len(errors[name][1e-6]) == 3 and max(errors[name][1e-6].values()) < 0.055
        assert all(errors[name][1e-6][seed] < errors[name][1e-4][seed] for seed in range(3))
    assert sum(error == pytest.approx(guess) for error in errors["dog"][1e-4].values()) == 2
    assert sum(error > guess - 0.05 for error in errors["ldog"][1e-4].values()) == 1
    tuned = [cell.test for cell in problem.cells if cell.row == MAIN_ROW[TUNED]]
    assert len(tuned) == 2 and all(0.95 < test < 0.96 for test in tuned)


def test_on_reuters_seeds_end_too_far_apart_for_a_verdict(archived):
    """docs/findings.md."""
    pairs = archived.evidence(FINE_TUNING, (DOG, SGD)).pairs
    (pair,) = (each for each in pairs if each.comparison.problem.task == "reuters_r8")
    assert pair.verdict == "inconclusive" and np.isinf(pair.red.interval()[0])


def test_of_tasks_with_the_same_texts_one_counts_and_the_other_would_change_one_verdict(archived):
    """docs/findings.md, of the evidence."""
    standing = {"movies", "reuters_r8", "probe_movies", "probe_reuters_r8"}
    for kind, method, rival in product(KINDS, (DOG, LDOG), (SGD, ADAMW)):
        evidence = archived.evidence(kind, (method, rival))
        tasks = {pair.comparison.problem.task for pair in evidence.of_tasks}
        assert standing & tasks and not tasks & SAME_TEXTS.keys()
        others = [p for p in evidence.all_pairs if p.comparison.problem.task not in standing]
        said = [judged(each.for_other_tasks) for each in (evidence, Evidence(others))]
        if (kind, rival) == (PROBES, ADAMW):
            assert said == ["worse", "inconclusive"]
        else:
            assert said[0] == said[1]


def test_on_adapters_dog_is_better_from_a_larger_start_and_adamw_is_better_still(archived):
    """docs/optimizers.md."""
    problem, dog = by_start(archived, "movies", "minilm", "lora")
    assert dog[0.01] > dog[1e-4]
    reached = {cell.optimizer: cell.test for cell in problem.cells if cell.row == DEFAULT}
    assert {cell.seeds for cell in problem.cells if cell.row in (DEFAULT, MAIN_ROW[TUNED])} == {3}
    assert reached.pop("adamw") > max(*reached.values(), *dog.values())


def test_the_start_that_is_best_over_many_problems_ruins_another_network(archived):
    """docs/start.md: ten classes."""
    _, dog = by_start(archived, "cifar", "efficientnet_lite0", "frozen")
    assert dog[0.01] < 0.11


def test_the_automatic_start_is_near_the_best_on_images_and_fails_on_language_tasks(archived):
    """docs/start.md, docs/optimizers.md, README.md, configs/opt/dog_auto.yaml."""
    tried = [each for each in archived.tried if each.optimizer == "dog_auto"]
    found = regrets_of(tried)
    language = found["problem"].str.contains("minilm")
    assert (~language).sum() > 10 and found["regret"][~language].max() < 0.01
    assert found["regret"][language].max() > 0.4
    guesses = dict(line.split(": ", 1) for line in list_guesses(archived).splitlines())
    assert "reuters_r8" in guesses["- DoG auto"] and "tweets" in guesses["- DoG auto"]
    assert "tweets" in guesses["- L-DoG"]


def test_polyaks_step_ruins_a_small_network_and_falling_back_mends_that(archived):
    """docs/start.md, of the other rules."""
    found = regrets_of_rules(archived.tried)
    scratch = found[[name for name in found if name.startswith("mnist_scratch")]].max(axis=1)
    features = found[[name for name in found if name.startswith("probe_")]]
    assert min(scratch["polyak_1"], scratch["polyak_10"]) > 0.05
    assert max(scratch["fall_back_1"], scratch["fall_back_10"]) < 0.01
    assert (features.loc["polyak_1"] <= features.loc["DoG auto"] + 0.001).all()


def test_no_rule_is_near_the_best_start_on_both_language_tasks(archived):
    """docs/start.md, of the other rules."""
    found = regrets_of_rules(archived.tried)
    movies, reuters = (
        found[next(name for name in found if name.startswith(f"{task} "))]
        for task in ("movies", "reuters_r8")
    )
    assert ((movies > 0.01) | (reuters > 0.01)).all()
    assert set(reuters.index[reuters < 0.01]) == {"auto_straight_3", "curvature", "probe_0.3"}
    assert (reuters > 0.4).mean() > 0.5


@pytest.mark.parametrize("optimizer", ["dog", "ldog"])
def test_in_fine_tuning_starts_are_far_apart_and_on_probes_a_point_or_so(archived, optimizer):
    """docs/findings.md, in points."""
    fine_tuning, probes = (
        [100 * each.spread for each in archived.runs.starts(archived.by_kind[kind], optimizer)]
        for kind in (FINE_TUNING, PROBES)
    )
    assert np.mean(np.array(fine_tuning) > 20) > 0.5 and max(probes) < 1.5


@pytest.mark.parametrize("optimizer", ["dog", "ldog"])
def test_a_start_of_1e_6_alone_is_far_from_the_default_either_way(archived, optimizer):
    """docs/findings.md, section 4, with frozen batch normalization."""
    gains = []
    for each in archived.runs.starts(archived.by_kind[FINE_TUNING], optimizer):
        if 1e-6 in each.errors and "batch_norm=train" not in name_of(each.comparison):
            smaller, default = each.errors[1e-6], each.errors[1e-4]
            gains.append(np.mean([default[seed] - smaller[seed] for seed in smaller]))
    assert sum(abs(gain) > 0.1 for gain in gains) >= 4 and min(gains) < -0.1 and max(gains) > 0.1


def test_with_batch_normalization_trained_a_larger_start_is_level_with_tuned_sgd(archived):
    """docs/findings.md."""
    problem, _ = by_start(archived, "cifar", "efficientnet_lite0", "train")
    tuned = {cell.label: cell.test for cell in problem.cells if cell.row == MAIN_ROW[TUNED]}
    assert round(tuned["SGD"], 2) == 0.76 and round(tuned["AdamW"], 2) == 0.81
    for optimizer, reached in (("dog", 0.77), ("ldog", 0.81)):
        _, errors = archived.runs.varied(problem, optimizer, "reps_rel")
        (larger,) = errors[0.01].values()
        assert round(1 - larger, 2) == reached
        assert {round(1 - error, 2) for error in errors[1e-4].values()} <= {0.64, 0.65, 0.66, 0.67}


def test_in_short_runs_a_smaller_start_is_often_worse(archived):
    """docs/findings.md, of claim 4."""
    problems = [each for each in archived.comparisons if each.problem.steps == 125]
    moved = [pair for each in archived.runs.starts(problems, "dog") for pair in each.moved(0.01)]
    assert sum(pair.verdict == "worse" for pair in moved) > len(moved) / 2 > 3


@pytest.mark.parametrize("task", ["probe_cifar", "probe_movies"])
def test_dog_needs_some_hundred_steps_to_be_level_with_what_is_tuned(archived, task):
    """docs/protocol.md, of the error by number of steps."""
    ahead = {}
    for each in archived.comparisons:
        test = {cell.optimizer: cell.test for cell in each.cells if cell.row == MAIN_ROW[cell.role]}
        ours = (each.problem.task, each.problem.protocol) == (task, "lite")
        if ours and test.keys() >= {"dog", "sgd", "adam"}:
            ahead[each.problem.steps] = test["dog"] - max(test["sgd"], test["adam"])
    assert ahead[125] < -0.01 and min(ahead[500], ahead[1000]) > -0.005
    assert (ahead[4000] < -0.02) == (task == "probe_cifar")


def test_on_mnist_scratch_some_rivals_jump_from_start_to_start_and_one_never_learns(archived):
    """docs/start.md, docs/findings.md."""
    problems = [each for each in archived.comparisons if each.problem.task == "mnist_scratch"]
    spreads = {
        name: max(each.spread for each in archived.runs.starts(problems, name))
        for name in ("prodigy", "dowg", "dadapt_sgd", "dadapt_adam")
    }
    assert spreads.pop("dadapt_adam") < 0.01 and min(spreads.values()) > 0.5


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
