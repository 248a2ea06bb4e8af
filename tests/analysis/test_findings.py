"""What docs/findings.md says is what its runs say, by hand-worked cases."""

from dataclasses import replace
from types import SimpleNamespace

import made_up_records as made_up
import numpy as np
import pytest
from made_up_records import with_rate

from analysis.choice import MODEL_TUNED
from analysis.files import write_files
from analysis.findings import (
    accuracies,
    automatic,
    claims,
    coverage,
    headline,
    longer,
    problems,
    starts,
)
from analysis.findings.archived import DOG, LDOG, SGD, Archived
from analysis.findings.fill import fill
from analysis.findings.pairs import NO_VERDICT
from analysis.findings.problems import first_of_each_task, of_kind, planned
from analysis.findings.runs import spread
from analysis.findings.texts import NO_RUNS, listed
from analysis.findings.values import PAGES, values, write_pages
from analysis.kinds import FINE_TUNING, PROBES, SCRATCH
from analysis.tables.models import compare_over_tasks
from runner import config
from runner.identity import problem_id, run_id
from runner.run_record import RunRecord
from sweeps.packing import write_archive
from tasks.errors import UserError

IDS = {"run_id": run_id, "problem_id": problem_id}


@pytest.fixture
def archived(tmp_path):
    """A function that gives what is said of made-up records."""
    return lambda *made: Archived(made_up.collected(tmp_path, *made))


def sgd_and_dogs(task="cifar", seeds=(0, 1, 2), dog=0.30, ldog=0.20, sgd=0.25, **where):
    """Runs of DoG, L-DoG and SGD at its best rate; errors grow by .01 a seed, alike for all."""
    where = {"task": task, **where}
    for rate, score in ((0.01, 0.6), (0.1, 0.7), (1.0, 0.5)):
        yield made_up.record(score, seed=100, changed=with_rate(rate), **where)
    yield made_up.record(0.65, seed=100, opt="dog", **where)
    for seed in seeds:
        error = 1 + seed / 30
        yield made_up.record(1 - dog * error, opt="dog", seed=seed, **where)
        yield made_up.record(1 - ldog * error, opt="ldog", seed=seed, **where)
        yield made_up.record(1 - sgd * error, seed=seed, changed={"lr": 0.1}, **where)


def test_between_marks_stands_the_value_and_all_else_stays():
    text = "a <!-- one -->x<!-- /one --> b <!-- two -->\ny\n<!-- /two --> <!-- no mark -->"
    made = fill(text, {"one": lambda: "1", "two": lambda: "| t |\n| - |"})
    assert made == (
        "a <!-- one -->1<!-- /one --> b <!-- two -->\n| t |\n| - |\n<!-- /two --> <!-- no mark -->"
    )
    assert fill(made, {"one": lambda: "1", "two": lambda: "| t |\n| - |"}) == made
    with pytest.raises(UserError, match="no value for <!-- tow -->: did you mean two"):
        fill("<!-- tow --><!-- /tow -->", {"two": lambda: ""})


def test_the_demo_is_of_its_own_problems_whatever_else_is_stored(archived):
    smoke = {"protocol": ("smoke", 1), "steps": 500}
    demo = sgd_and_dogs("probe_cifar", budget="probe", **smoke)
    others = sgd_and_dogs("logistic_wine", model="own", **smoke), sgd_and_dogs("probe_cifar")
    shown = coverage.demo(archived(*demo, *(made for other in others for made in other)))
    assert "probe_cifar" in shown and shown.count("[whole table]") == 1


def test_a_method_is_weighed_against_its_rival_with_itself_as_reference(archived):
    found = archived(*sgd_and_dogs("cifar"), *sgd_and_dogs("movies", dog=0.26))
    dog = found.evidence(FINE_TUNING, (DOG, SGD))
    # (0.30 − 0.25) / 0.30 and (0.26 − 0.25) / 0.26; the same on every seed: no noise at all.
    reds = [pair.red.estimate for pair in dog.pairs]
    assert reds == pytest.approx([1 / 6, 1 / 26])
    assert dog.over_problems.estimate == pytest.approx((1 / 6 + 1 / 26) / 2)
    assert [pair.verdict for pair in dog.pairs] == ["worse", "non-inferior"]
    over = compare_over_tasks(found.comparisons).set_index(["optimizer", "row"])
    theirs = over.loc[SGD]
    assert dog.over_problems.estimate == pytest.approx(theirs["red_median"])
    assert dog.over_problems.on_these_tasks == pytest.approx(
        (theirs["these_low"], theirs["these_high"])
    )
    # Of L-DoG (0.20 − 0.25) / 0.20, not of DoG.
    ldog = found.evidence(FINE_TUNING, (LDOG, SGD))
    assert [pair.red.estimate for pair in ldog.pairs] == pytest.approx([-0.25, -0.25])
    assert "2 better" in claims.table(found, [(LDOG, SGD)])
    assert claims.contradicting(found, [(LDOG, SGD)]) == "- none"
    assert claims.contradicting(found, [(DOG, SGD)]).startswith(
        "- DoG against SGD, instance-tuned: cifar · efficientnet_lite0"
    )


def test_images_and_texts_are_weighed_apart(archived):
    texts = {"budget": "language", "sgd": 0.33}
    found = archived(*sgd_and_dogs("cifar"), *sgd_and_dogs("movies", **texts))
    made = claims.by_domain(found, [(DOG, SGD)]).splitlines()
    row = next(line for line in made if "DoG against SGD" in line)
    _, _, _, images, of_texts, both, _ = row.split("|")
    assert "**worse** (+16.7 to +16.7) over 1 problem" in images
    assert "**better** (−10.0 to −10.0) over 1 problem" in of_texts
    assert "over 2 problems" in both


def test_without_runs_the_command_is_named_and_one_seed_gives_no_verdict(archived):
    found = archived(*sgd_and_dogs(seeds=(0,)))
    table = claims.table(found, [(DOG, SGD)])
    assert "fine-tuning: 1 of one seed alone, no verdict" in table
    assert f"probes: {NO_RUNS}" in table and "make sweep SWEEP=campaign" in table
    assert "better" not in table and "non-inferior" not in table
    by_domain = claims.by_domain(found, [(DOG, SGD)])  # images, and both; no texts, no probes
    assert (by_domain.count(NO_VERDICT), by_domain.count(NO_RUNS)) == (2, 4)


def test_other_tasks_are_told_of_by_one_problem_of_each_and_not_by_fewer_than_six(archived):
    fewer = archived(*sgd_and_dogs("cifar"))
    assert "| no verdict: 1 task " in claims.table(fewer, [(DOG, SGD)])
    made = [
        record
        for task in ["cifar", "fashion_mnist", "mnist", "movies", "tweets", "amazon"]
        for record in sgd_and_dogs(task, sgd=0.27)
    ]
    made += sgd_and_dogs("cifar", model="squeezenet", sgd=0.1)
    found = archived(*made).evidence(FINE_TUNING, (DOG, SGD))
    assert len(found.pairs) == 7 and len(found.of_tasks) == 6
    assert {pair.comparison.problem.model for pair in found.of_tasks} == {"efficientnet_lite0"}
    assert found.for_other_tasks == pytest.approx((0.1, 0.1))


def test_problems_on_which_a_tuned_setting_was_never_reported_are_named(archived):
    made = [*sgd_and_dogs("movies"), *sgd_and_dogs("tweets"), *sgd_and_dogs("amazon")]
    # By the median over the tasks 0.1 is best, and the best on cifar is 0.01, alone reported there.
    made += [
        record
        for record in sgd_and_dogs("cifar", seeds=(0, 1))
        if record["settings"]["opt"]["name"] != "sgd"
    ]
    for rate, score in ((0.01, 0.7), (0.1, 0.6), (1.0, 0.5)):
        made.append(made_up.record(score, seed=100, task="cifar", changed=with_rate(rate)))
    for seed in (0, 1):
        made.append(made_up.record(0.7, seed=seed, task="cifar", changed=with_rate(0.01)))
    found = archived(*made)
    matches = [(DOG, SGD), (DOG, ("sgd", MODEL_TUNED))]
    assert claims.unmeasured(found, matches) == (
        "- DoG against SGD, model-tuned: cifar · efficientnet_lite0"
    )
    assert claims.unmeasured(found, matches[:1]) == "- none"


def test_kinds_of_problems_are_told_apart_and_other_steps_left_out(archived):
    records = [
        *sgd_and_dogs("cifar"),
        *sgd_and_dogs("cifar", steps=100),
        *sgd_and_dogs("probe_cifar", budget="probe", steps=2000),
        *sgd_and_dogs("mnist_scratch", model="lenet5"),
        *sgd_and_dogs("logistic_wine", budget="theory"),
        *sgd_and_dogs("mnist", protocol=("smoke", 1)),
    ]
    comparisons = archived(*records).comparisons
    tasks = {
        kind: [each.problem.task for each in of_kind(comparisons, kind)]
        for kind in (FINE_TUNING, PROBES, SCRATCH)
    }
    assert tasks == {
        FINE_TUNING: ["cifar"],
        PROBES: ["probe_cifar"],
        SCRATCH: ["mnist_scratch"],
    }


@pytest.mark.parametrize("task", ["cifar", "mnist_scratch", "probe_tweets"])
def test_a_tasks_own_network_is_that_which_it_is_composed_with(task):
    assert problems.own_network(task) == config.load([f"task={task}"]).spec.model.name


def test_spread_is_of_means_over_the_seeds_that_all_starts_have():
    errors = {1e-6: {0: 0.5, 1: 0.7}, 1e-4: {0: 0.2, 1: 0.2, 2: 0.9}, 1e-2: {0: 0.3, 1: 0.5}}
    assert spread(errors) == pytest.approx(0.6 - 0.2)
    assert np.isnan(spread({1.0: {0: 0.1}, 2.0: {1: 0.1}})) and np.isnan(spread({}))


def test_moved_starts_are_weighed_against_the_default_one_on_the_same_seeds(archived):
    made = [*sgd_and_dogs(seeds=(0, 1, 2, 3))]
    for start, error in ((1e-6, 0.60), (1e-2, 0.30), (1e-8, 0.9)):
        for seed in (0, 1):
            error_of_seed = error * (1 + seed / 30)
            changed = {"reps_rel": start}
            made.append(made_up.record(1 - error_of_seed, opt="dog", seed=seed, changed=changed))
    found = archived(*made)
    (tried,) = found.runs.starts(found.by_kind[FINE_TUNING], "dog")
    assert tried.default == 1e-4 and tried.seeds == 2
    # Within a factor of 100: 0.60 and 0.30, over seeds 0 and 1; 1e-8 is farther.
    assert tried.spread == pytest.approx(0.30 * (1 + 0.5 / 30))
    (smaller,), (larger,) = tried.moved(0.01), tried.moved(100)
    assert smaller.seeds == 2 and smaller.red.estimate == pytest.approx(0.5)
    assert (smaller.verdict, larger.verdict) == ("worse", "non-inferior")
    table = starts.table(found, ["dog"])
    assert "fine-tuning: 1" in table and "1 worse" in table and "1 non-inferior" in table
    assert starts.in_short(found, FINE_TUNING, False) == "1 non-inferior, 1 worse"
    assert starts.in_short(found, FINE_TUNING, True) == NO_RUNS


def test_the_seeds_of_moved_starts_are_those_that_verdicts_rest_on_too(archived):
    made = [*sgd_and_dogs()]
    # A start between has one seed, so all share one; that which is weighed has two.
    for start, seeds in ((1e-5, (0,)), (1e-6, (0, 1))):
        for seed in seeds:
            score = 0.4 - seed / 50
            made.append(made_up.record(score, opt="dog", seed=seed, changed={"reps_rel": start}))
    table = starts.table(archived(*made), ["dog"])
    assert "1 worse" in table and "| 1 to 2 |" in table


def test_a_start_that_is_a_squared_length_is_moved_by_the_square(archived, monkeypatch):
    monkeypatch.setitem(made_up.DEFAULTS, "dowg", {"eps": 1e-4})
    monkeypatch.setitem(made_up.GRIDS, "dowg", {})
    monkeypatch.setitem(made_up.LABELS, "dowg", "DoWG")
    made = [*sgd_and_dogs()]
    # DoWG's eps is the square of its first distance: 100 times less of that is 1e-8.
    for eps, error in ((1e-4, 0.30), (1e-6, 0.40), (1e-8, 0.60), (1.0, 0.45)):
        changed = {} if eps == 1e-4 else {"eps": eps}
        for seed in (0, 1):
            score = 1 - error * (1 + seed / 30)
            made.append(made_up.record(score, opt="dowg", seed=seed, changed=changed))
    found = archived(*made)
    (tried,) = found.runs.starts(found.by_kind[FINE_TUNING], "dowg")
    (smaller,), (larger,) = tried.moved(0.01), tried.moved(100)
    assert smaller.red.estimate == pytest.approx(0.5)
    assert larger.red.estimate == pytest.approx(1 / 3)
    assert tried.spread == pytest.approx(0.30 * (1 + 0.5 / 30))


def test_starts_that_are_all_moved_farther_give_no_spread(archived):
    made = [*sgd_and_dogs()]
    for seed in (0, 1, 2):
        made.append(made_up.record(0.1, opt="dog", seed=seed, changed={"reps_rel": 1e-8}))
    found = archived(*made)
    assert found.runs.starts(found.by_kind[FINE_TUNING], "dog") == []
    assert starts.table(found, ["dog"]) == NO_RUNS


def test_averaged_weights_are_weighed_against_the_last_ones_of_the_same_runs(archived):
    made = [
        made_up.record((0.6, 0.7), (0.6 - seed / 50, 0.8 - seed / 100), opt="dog", seed=seed)
        for seed in (0, 1, 2)
    ]
    (pair,) = archived(*made).averaged(FINE_TUNING, DOG).pairs
    # Errors 0.2, 0.21, 0.22 against 0.4, 0.42, 0.44: twice as many.
    assert pair.red.estimate == pytest.approx(-1) and pair.verdict == "better"


def test_planned_problems_without_runs_are_named_and_those_that_lack_some(archived, monkeypatch):
    monkeypatch.setattr(problems, "departures", lambda _: [])  # made-up problems have many
    plans = {plan.name: plan for plan in planned("campaign")}
    assert plans["cifar · squeezenet"].seeds["dog"] == {0, 1, 2, 3, 4}
    assert plans["cifar · squeezenet"].seeds["prodigy"] == {0, 1, 2}
    assert "movies · minilm, model.lora=8" in plans
    found = coverage.missing(archived(*sgd_and_dogs("mnist", seeds=range(5))))
    absent, some = found.splitlines()
    assert absent.startswith("- all optimizers on ") and "; tweets · minilm" in absent
    assert some == "- mnist · efficientnet_lite0: dog_auto, ldog_auto, adamw"
    # A problem with too few seeds has runs.
    found = coverage.missing(archived(*sgd_and_dogs("cifar", seeds=range(2))))
    assert "\n- cifar · efficientnet_lite0: DoG, L-DoG, dog_auto, ldog_auto, SGD, adamw" in found
    # As many seeds that were not planned are not those that were.
    found = coverage.missing(archived(*sgd_and_dogs("cifar", seeds=range(7, 12))))
    assert "\n- cifar · efficientnet_lite0: DoG, L-DoG, dog_auto, ldog_auto, SGD, adamw" in found


def test_a_planned_problem_lacks_an_optimizer_whose_starts_are_not_all_there(archived, monkeypatch):
    """Those of the sweep `start_networks` are 1e-6, 1e-3 and 1e-2."""
    monkeypatch.setattr(problems, "departures", lambda _: [])  # made-up problems have many
    where = {"task": "movies", "model": "minilm", "steps": 200}
    made = [*sgd_and_dogs(seeds=(0,), **where)]
    for opt, starts_of in (("dog", (1e-6, 1e-3, 1e-2)), ("ldog", (1e-6, 1e-3))):
        for start in starts_of:
            made.append(made_up.record(0.5, opt=opt, changed={"reps_rel": start}, **where))
    found = coverage.missing(archived(*made), ["start_networks"])
    assert "\n- movies · minilm, train.steps=200: L-DoG, dog_auto, ldog_auto" in found


def test_none_is_worse_is_not_said_of_comparisons_without_a_verdict():
    pairs = [("A-DoG", SimpleNamespace(verdict=verdict)) for verdict in (NO_VERDICT, "better")]
    assert listed(pairs) == "- none\n- not known, for lack of seeds: 1 comparison"
    assert listed(pairs[1:]) == "- none"


def test_readmes_table_has_a_row_for_each_method_and_says_over_how_many_problems(archived):
    found = archived(*sgd_and_dogs("cifar"), *sgd_and_dogs("movies"))
    rows = headline.table(found).splitlines()[2:]
    cells = {row.split("|")[1].strip(): row.split("|")[2:] for row in rows}
    assert list(cells) == ["DoG", "L-DoG", "dog_auto", "ldog_auto", "SGD, tuned", "adamw, tuned"]
    assert cells["SGD, tuned"][0].strip() == "+16.7 (+16.7 to +16.7), n = 2 ¹"
    assert cells["SGD, tuned"][1].strip() == "**worse** ¹" and cells["SGD, tuned"][4].strip() == "3"
    assert cells["L-DoG"][2].strip() == "no runs yet"


def test_readmes_verdict_is_for_other_tasks_where_there_are_enough(archived):
    made = [
        record
        for place, task in enumerate(
            ["cifar", "fashion_mnist", "mnist", "movies", "tweets", "amazon"]
        )
        for record in sgd_and_dogs(task, sgd=0.27 if place else 0.6)
    ]
    row = headline.table(archived(*made)).splitlines()[-2]
    # RED 0.1 on all but one task, where it is −1; for other seeds the interval has no width.
    assert "| +10.0 (−100.0 to +10.0), n = 6 | **inconclusive** " in row


def test_pages_and_figure_are_made_of_the_archive_and_grow_with_it(tmp_path):
    (tmp_path / "docs").mkdir()
    for page in PAGES:
        (tmp_path / page).write_text("no mark")
    (tmp_path / "README.md").write_text("It holds <!-- stored -->?<!-- /stored -->.")
    (tmp_path / "docs" / "findings.md").write_text("<!-- sgd.against -->\n<!-- /sgd.against -->")

    def written(name, *records):
        write_archive(tmp_path / "results/archive" / name, map(RunRecord.of, records))
        page, findings, *_, drawn = write_pages(tmp_path)
        assert drawn.read_text().count("<svg") == 1 and "cut off at −100" in drawn.read_text()
        return page.read_text(), findings.read_text()

    page, findings = written("one.jsonl.gz", *sgd_and_dogs("movies", sgd=0.5))
    assert page == "It holds <!-- stored -->13 finished runs, of the sweeps `one`<!-- /stored -->."
    assert findings == "<!-- sgd.against -->\n- none\n<!-- /sgd.against -->"
    page, findings = written("two.jsonl.gz", *sgd_and_dogs("cifar"))
    assert "26 finished runs, of the sweeps `one`, `two`" in page
    assert "- DoG against SGD, instance-tuned: cifar · efficientnet_lite0" in findings
    # What is drawn of all runs, and what is not, each removes its own figures alone.
    write_files({}, tmp_path / "results" / "figures", ".svg")
    assert (tmp_path / "results" / "figures" / "findings.svg").exists()


def test_every_value_can_be_made_of_any_archive(archived):
    found = archived(*sgd_and_dogs("cifar"))
    for name, make in values(found).items():
        assert isinstance(make(), str), name
    assert first_of_each_task([]) == []


def test_of_tasks_with_the_same_texts_that_which_stands_for_both_counts(archived):
    tasks = ("rotten_tomatoes", "movies", "probe_reuters_r52")
    found = archived(*(record for task in tasks for record in sgd_and_dogs(task)))
    taken = {each.problem.task for each in first_of_each_task(found.comparisons)}
    assert taken == {"movies", "probe_reuters_r52"}  # whose other one is not there


def test_accuracies_stand_side_by_side_and_those_of_a_guess_are_marked(archived):
    found = archived(*sgd_and_dogs("movies", model="minilm", dog=0.30, ldog=0.89))
    header, _, dog, ldog, *_ = accuracies.at_defaults(found).splitlines()
    assert header.split("|")[2].strip() == "movies · minilm"
    # The mean of errors .30, .31 and .32, and 4.303 standard errors of .01 / √3.
    assert "| DoG " in dog and " 69.0 ± 2.5 |" in dog
    # Errors of .92 on average: no better than the most frequent of ten classes.
    assert "| L-DoG " in ldog and ldog.endswith(" † |")
    header, _, row = accuracies.of_family(found).splitlines()
    assert "SGD, tuned" in header and "74.2 ± 2.1" in row
    assert accuracies.list_guesses(found) == "- L-DoG: movies · minilm (3 of 3 seeds)"


@pytest.fixture
def automatic_start(monkeypatch):
    """`dog_auto` among what can be made up."""
    monkeypatch.setitem(made_up.DEFAULTS, "dog_auto", {"lr": 1.0, "reps_rel": "auto"})
    monkeypatch.setitem(made_up.GRIDS, "dog_auto", {})
    monkeypatch.setitem(made_up.LABELS, "dog_auto", "DoG auto")


@pytest.mark.usefixtures("automatic_start")
def test_automatic_starts_are_judged_by_kind_and_steps(archived):
    made = []
    for steps, behind in ((125, 0.0), (468, 0.04)):
        for start, score in ((1e-6, 0.5), (1e-4, 0.6), (1e-2, 0.7)):
            changed = {} if start == 1e-4 else {"reps_rel": start}
            made.append(made_up.record(0.5, score, opt="dog", changed=changed, steps=steps))
        made.append(made_up.record(0.5, 0.7 - behind, opt="dog_auto", steps=steps))
    found = archived(*made)
    _, _, short, long = automatic.make_table_by_steps(found).splitlines()
    assert [cell.strip() for cell in short.split("|")[1:5]] == [
        *("DoG auto, fine-tuning, 125 steps", "1", "1", "1")
    ]
    assert "fine-tuning, 468 steps" in long and " 4.0 (cifar" in long and " +6.0 " in long
    _, _, all_steps, fixed, default = automatic.make_table(found).splitlines()
    assert [cell.strip() for cell in all_steps.split("|")[2:5]] == ["2", "1", "1"]
    # The best of the starts that are the same for all problems: here it is the best of each.
    assert [cell.strip() for cell in fixed.split("|")[1:4]] == ["DoG from 1e-2 on all", "2", "1"]
    assert " 0.0 (cifar" in fixed and " +10.0 " in fixed
    assert "| DoG from 1e-4 on all " in default and " 10.0 (cifar" in default
    assert automatic.count_near(found) == "1 of 2 problems"
    assert automatic.describe_best(found) == "1e-2 to 1e-2"
    assert automatic.count_at_edge(found) == "2 of 2 problems"
    assert automatic.list_misses(found).splitlines() == [
        "- DoG auto, more than 1 point behind the best fixed start: "
        "cifar · efficientnet_lite0 (4.0)",
        # With the default start and the published one, on both problems.
        "- not known, for lack of seeds: 4 comparisons",
    ]


@pytest.mark.usefixtures("automatic_start")
def test_on_probes_the_gain_over_the_default_start_is_said_and_what_more_training_does(archived):
    made = []
    where = {"task": "probe_amazon", "model": "minilm", "budget": "probe"}
    for steps, behind in ((125, -0.04), (1500, 0.02)):
        for start, score, loss in ((1e-6, 0.75, 0.3), (1e-4, 0.7, 0.2), (1e-2, 0.65, 0.1)):
            for seed in (0, 1):
                changed = {} if start == 1e-4 else {"reps_rel": start}
                one = made_up.record(
                    score, opt="dog", changed=changed, steps=steps, seed=seed, **where
                )
                one["results"]["train_loss"] = loss
                made.append(one)
        for seed in (0, 1):
            score = 0.7 - behind - seed / 1000
            made.append(made_up.record(score, opt="dog_auto", steps=steps, seed=seed, **where))
    found = archived(*made)
    gain = "+4.0 at 125 steps (1 probe), −2.1 at 1,500 steps (1 probe)"
    assert automatic.describe_gain(found) == gain and automatic.count_starts(found) == "3"
    said = "1,500 steps, 0.300 and 75.0 % from 1e-6, 0.100 and 65.0 % from 1e-2"
    assert automatic.describe_overtraining(found) == said
    # Differences .020 and .021 from the default: 12.706 standard errors of .0005.
    _, worse, published, *_ = automatic.list_misses(found).splitlines()
    name = "probe_amazon · minilm, train.batch_size=32, train.steps=1500, train.train_examples=5000"
    assert worse == f"- DoG auto, worse than from 1e-4: {name} (−2.05 ± 0.64)"
    assert published.startswith("- DoG auto, worse than from 1e-6: ") and name in published


@pytest.mark.usefixtures("automatic_start")
def test_on_adapters_a_start_is_not_judged_but_a_miss_is_listed(archived):
    """They have not all starts of the others, which all the same compete for one for all."""
    made = []
    for lora, starts_of in ((None, (1e-6, 1e-4, 1e-2)), (8, (1e-5, 1e-4, 1e-3))):
        for opt, start in (*(("dog", start) for start in starts_of), ("dog_auto", 1e-4)):
            changed = {} if start == 1e-4 else {"reps_rel": start}
            score = 0.7 if start > 1e-4 else 0.5
            record = made_up.record(score, opt=opt, changed=changed, task="movies", model="minilm",
                                    protocol=("lite", 2), steps=400)  # fmt: skip
            if lora:
                record["settings"]["model"]["lora"] = lora
                record |= {name: id_of(record["settings"]) for name, id_of in IDS.items()}
            made.append(record)
    found = archived(*made)
    assert automatic.list_shared_starts(found) == "DoG 1e-6, 1e-4, 1e-2"
    assert automatic.count_near(found) == "0 of 1 problem"
    misses = automatic.list_misses(found)
    assert misses.count("(20.0)") == 2 and "movies · minilm, model.lora=8, " in misses


@pytest.mark.usefixtures("automatic_start")
def test_a_problem_without_variants_is_named_with_its_steps_if_these_are_not_the_protocols(
    archived,
):
    made = [
        made_up.record(0.5, opt="dog", changed=changed, steps=100)
        for changed in ({"reps_rel": 1e-6}, {}, {"reps_rel": 1e-2})
    ]
    found = archived(*made, made_up.record(0.3, opt="dog_auto", steps=100))
    for text in (automatic.make_table(found), automatic.list_misses(found)):
        assert "cifar · efficientnet_lite0, train.steps=100" in text


@pytest.mark.usefixtures("automatic_start")
def test_a_start_that_was_never_run_is_not_said_to_be_no_better(archived):
    made = [
        made_up.record(0.5 + seed / 100, opt=opt, changed=changed, seed=seed)
        for seed in (0, 1)
        for opt, changed in (
            *(("dog", {"reps_rel": start}) for start in (1e-5, 1e-3, 1e-2)), ("dog", {}),
            ("dog_auto", {}),
        )
    ]  # fmt: skip
    # It was not run from 1e-6.
    assert "not known, for lack of seeds: 1 comparison" in automatic.list_misses(archived(*made))


def test_longer_training_stands_beside_the_same_problem_in_lite(archived, monkeypatch):
    long = {"protocol": ("long", 1), "steps": 2000, "batch_size": 128, "train_examples": None}
    made = [
        *sgd_and_dogs(),
        *sgd_and_dogs(**long),
        made_up.record(0.9, opt="dog", seed=100, **long | {"steps": 2001}),  # no protocol's own
        *sgd_and_dogs("fashion_mnist"),  # by lite alone
    ]
    # Without AdamW there are not all methods: seed 100, where SGD's rates have 0.6, 0.7 and 0.5.
    rows = longer.rows(archived(*made))
    assert [each.comparison.problem.protocol for each in rows] == ["lite", "long"]
    assert {each.seeds for each in rows} == {"100"}
    assert rows[1].errors == {DOG: pytest.approx(0.35), SGD: pytest.approx(0.30)}
    row = longer.table(archived(*made)).splitlines()[3].replace(" ", "")
    assert row == "|cifar·efficientnet_lite0|long|100|65.00|–|70.00|–|+14.3|–|–|"
    monkeypatch.setattr(longer, "METHODS", (DOG, LDOG, SGD))
    lite, longest = longer.rows(archived(*made))
    assert (lite.seeds, longest.seeds) == ("3 reported", "3 reported")
    assert lite.errors[DOG] == pytest.approx(0.31)  # 0.30, 0.31, 0.32
    assert lite.red(LDOG, SGD) == pytest.approx(-0.25)
    few = replace(lite, errors={LDOG: 9 / 2000, SGD: 12 / 2000})
    assert np.isnan(few.red(LDOG, SGD)) and few.red(SGD, LDOG) == pytest.approx(0.25)


def test_without_longer_runs_the_table_says_so(archived):
    assert longer.table(archived(*sgd_and_dogs())) == NO_RUNS
