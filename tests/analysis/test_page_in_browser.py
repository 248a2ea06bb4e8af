"""The page in a real browser: Debian's Chromium, without a window and without a network."""

import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import made_up_records as made_up
import pytest
from runs_of_page import EVIL, large_report, page_report

from analysis.html import page
from analysis.html.picture import chromium, take_picture
from analysis.html.report import Answer
from analysis.html.runs import KnownRuns
from runner.run_record import RunRecord

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
if chromium() is None:
    pytest.skip("there is no Chromium (apt-get install chromium)", allow_module_level=True)

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
RUN = made_up.record(0.8, changed={"lr": 0.1}, task="photos")["run_id"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page.render(page_report()))
    return path


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # Whoever runs the tests in a container is root there, which Chromium's sandbox refuses.
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser, path, fragment="", **options):
    """Open the page; return it, and whatever it complained of or asked for."""
    made, told = browser.new_context(offline=True, **options).new_page(), []
    made.on("console", lambda message: told.append(message.text))
    made.on("pageerror", lambda error: told.append(str(error)))
    made.on("dialog", lambda dialog: (told.append("a dialog"), dialog.dismiss()))
    made.on("request", lambda request: asked(request.url))

    def asked(url):
        if not url.startswith((path.as_uri(), "data:", "blob:")):
            told.append(url)

    made.goto(path.as_uri() + fragment)
    made.locator("#run-table table").wait_for(state="attached")
    return made, told


@pytest.fixture(scope="module")
def desk_once(browser, path):
    permissions = ["clipboard-read", "clipboard-write"]
    return opened(browser, path, viewport=DESK, color_scheme="light", permissions=permissions)


@pytest.fixture
def desk(desk_once):
    """The page at a desk: opened once, without a panel before each test."""
    made, told = desk_once
    made.evaluate("location.hash = ''")
    made.wait_for_function("!document.querySelector('dialog').open")
    return made, told


@pytest.fixture(scope="module")
def phone(browser, path):
    """The page on a phone, opened by a link to a run."""
    return opened(browser, path, f"#run/{RUN}", viewport=PHONE, color_scheme="dark")


def column(table, number):
    return table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()


@pytest.mark.parametrize("device", ["desk", "phone"])
def test_it_opens_without_an_error_or_a_request_and_draws_every_chart(device, request):
    made, told = request.getfixturevalue(device)
    made.wait_for_function(
        "[...document.querySelectorAll('.chart')].every((chart) => chart.querySelector('svg'))"
    )
    assert made.locator(".chart svg").count() > 5
    assert told == []
    # Tables scroll in boxes of their own.
    assert made.evaluate("document.documentElement.scrollWidth") == made.viewport_size["width"]
    assert EVIL in made.locator("h1").inner_text()


def test_a_table_is_sorted_by_click_and_by_keyboard(desk):
    made, told = desk
    table = made.locator("#board-table table")
    runs = table.get_by_role("button", name="runs", exact=True)
    number = 1 + table.locator("thead th").all_inner_texts().index("runs")
    head = table.locator(f"thead th:nth-child({number})")
    runs.click()
    assert head.get_attribute("aria-sort") == "descending"
    numbers = [int(text) for text in column(table, number)]
    assert numbers == sorted(numbers, reverse=True) and len(set(numbers)) > 1
    runs.focus()
    made.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert [int(text) for text in column(table, number)] == sorted(numbers)
    assert made.locator('#board-table th[aria-sort]:not([aria-sort="none"])').count() == 1
    assert told == []


def test_filters_choose_the_problems_of_the_leaderboard(desk):
    made, told = desk
    before = made.locator("#board-head").inner_text()
    made.get_by_label("Domain").select_option("language")
    after = made.locator("#board-head").inner_text()
    assert "photos" in before and "photos" not in after and "reviews" in after
    made.get_by_label("Domain").select_option("")
    assert made.locator("#board-head").inner_text() == before
    # Probes are chosen by the filter, or by a link of an answer, and come without fine-tuning.
    made.get_by_label("Kind").select_option("probes")
    probes = made.locator("#board-head").inner_text()
    assert "probe_photos" in probes and "reviews" not in probes
    made.get_by_label("Kind").select_option("fine-tuning")
    assert made.locator("#board-head").inner_text() == before
    made.evaluate("location.hash = 'leaderboard/lite/probes'")
    made.wait_for_function("document.getElementById('filter-kind').value === 'probes'")
    assert made.locator("#board-head").inner_text() == probes
    made.evaluate("location.hash = 'leaderboard/lite/fine-tuning'")
    assert told == []


def test_from_a_cell_to_a_run_in_two_clicks(desk):
    made, told = desk
    made.locator("#problem").select_option("photos-efficientnet_lite0-lite")
    made.locator("#problem-table tbody tr", has_text="SGD").first.locator("a").first.click()
    panel = made.get_by_role("dialog")
    panel.locator("tbody a").first.click()
    heading = panel.get_by_role("heading", level=2)
    # Panel and address follow each other at the page's leisure, and we hear of both later still.
    sync_api.expect(heading).to_have_text(re.compile("^photos-sgd-"))
    sync_api.expect(made).to_have_url(re.compile(f"#run/{re.escape(heading.inner_text())}$"))
    command = panel.locator("#command").inner_text()
    assert command.startswith("python run.py task=photos ") and " opt=sgd" in command
    panel.get_by_role("button", name="Copy").click()
    panel.get_by_role("button", name="Copied").wait_for()
    assert made.evaluate("navigator.clipboard.readText()") == command
    made.go_back()
    sync_api.expect(heading).to_have_text(re.compile("^SGD"))
    made.keyboard.press("Escape")
    panel.wait_for(state="hidden")
    sync_api.expect(made).to_have_url(re.compile("^[^#]+$"))
    assert told == []


def test_a_link_to_a_run_can_be_sent(phone):
    panel = phone[0].get_by_role("dialog")
    assert panel.get_by_role("heading", level=2).inner_text() == RUN
    assert panel.locator("#command").inner_text().startswith("python run.py task=photos ")


def test_an_answer_leads_to_the_runs_of_both_sides(desk):
    made, told = desk
    made.locator(".finding td a").first.click()
    panel = made.get_by_role("dialog")
    panel.wait_for()
    tables = panel.locator("table")
    assert tables.count() >= 2 and tables.first.locator("tbody tr").count() >= 2
    assert told == []


def test_every_link_of_an_answer_leads_somewhere(desk):
    made, told = desk
    links = made.locator("#answer a").evaluate_all("(all) => all.map((each) => each.hash)")
    assert len(links) > 5
    for link in links:
        made.evaluate("(link) => { location.hash = link; }", link)
        if link.startswith("#duel/"):
            made.get_by_role("dialog").wait_for()
        else:
            assert made.locator(f"[id='{link[1:].split('/')[0]}']").is_visible(), link
    assert told == []


def test_runs_are_found_by_words(desk):
    made, told = desk
    made.get_by_role("searchbox").fill("reviews sgd lr=0.1")
    found = column(made.locator("#run-table table"), 1)
    assert found and all(name.startswith("reviews") and "sgd" in name for name in found)
    assert told == []


def test_its_picture_is_taken(path, tmp_path):
    # In a thread of its own: the tests' Playwright has this one's event loop.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(take_picture, path, tmp_path / "report.png").result()
    assert (tmp_path / "report.png").read_bytes()[:4] == b"\x89PNG"


def test_it_prints_its_tables_whole(desk):
    made, told = desk
    made.emulate_media(media="print")
    box = made.locator("#board-table .scroll")
    assert box.evaluate("(box) => box.scrollHeight <= box.clientHeight + 1")
    assert not made.locator("nav").is_visible()
    assert made.pdf()[:4] == b"%PDF" and told == []
    made.emulate_media(media="screen")


def test_axe_finds_no_serious_fault(desk):
    """Of contrast, names, roles, landmarks and the keyboard, as axe-core checks them."""
    axe = pytest.importorskip("axe_playwright_python.base", reason="axe-core is not installed")
    made, _ = desk
    made.evaluate(axe.AXE_SCRIPT)
    contrast = {"rules": {"color-contrast": {"enabled": False}}}  # takes most of the time
    found = {"desk, light": serious_faults(made)}
    made.emulate_media(color_scheme="dark")
    found["desk, dark"] = serious_faults(made, runOnly=["color-contrast"])
    made.set_viewport_size(PHONE)
    found["phone"] = serious_faults(made, **contrast)
    made.evaluate("(run) => { location.hash = 'run/' + run; }", RUN)
    made.get_by_role("dialog").wait_for()
    found["phone, a run"] = serious_faults(made)
    assert not any(found.values()), found
    made.emulate_media(color_scheme="light")
    made.set_viewport_size(DESK)


def serious_faults(made, **options):
    """What axe-core finds: rules, and where they are broken."""
    # What is in a chart is one image for it: hidden, below a label.
    context = {"exclude": [["svg.marks > *"]]}
    options = {"resultTypes": ["violations"], **options}
    found = made.evaluate("(all) => axe.run(...all)", [context, options])
    return [
        (fault["id"], [node["html"] for node in fault["nodes"]])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]


NO_CHARTS = "window.vegaEmbed = () => new Promise(() => {});"  # they are drawn after the rest
# After these, what an action changes has been laid out and painted.
TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def used(session):
    """The processor's time of the page's main thread, which draws all, in seconds.

    Other programs hardly change it, unlike the time that passes.
    """
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(each["value"] for each in metrics if each["name"] == "ThreadTime")


def test_a_page_of_6000_runs_is_painted_in_a_second_and_filtered_in_100_ms(
    browser, tmp_path, monkeypatch
):
    """The best of several: the first ones compile their code, and in others memory is cleared.

    With 2,000 runs, what takes quadratic time would not yet show.
    """
    monkeypatch.setattr(page, "library", lambda: page.packed(NO_CHARTS))
    path = tmp_path / "report.html"
    path.write_text(page.render(large_report(6000)))

    def opened_anew():
        made = browser.new_context(offline=True, viewport=DESK).new_page()
        session = made.context.new_cdp_session(made)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        made.goto(path.as_uri())
        made.locator("#run-table table").wait_for(state="attached")
        made.evaluate(TWO_FRAMES)
        return made, session, used(session)

    def seconds(action):
        made.evaluate(TWO_FRAMES)
        before = used(session)
        action()
        made.evaluate(TWO_FRAMES)
        return used(session) - before

    openings = [opened_anew() for _ in range(2)]
    assert min(opening[2] for opening in openings) < 1  # from nothing to all tables
    made, session, _ = openings[-1]
    network, search = made.locator("#filter-model"), made.locator("#run-search")
    filters = [seconds(partial(network.select_option, name)) for name in ("1", "2", "3", "")]
    searches = [seconds(partial(search.fill, text)) for text in ("task3 sgd", "seed=1", "a", "")]
    assert made.locator("#run-count").inner_text().startswith("6,000 of 6,000 runs")
    assert min(filters) < 0.1 and min(searches) < 0.1, (filters, searches)


def test_a_page_without_verdicts_and_leaderboard_opens_without_an_error(browser, tmp_path):
    alone = KnownRuns([RunRecord.of(made_up.record(0.8, opt="dog", task="photos"))])
    path = tmp_path / "report.html"
    page.write_page(path, alone, "photos", Answer(["One run is no comparison."]))
    made, told = opened(browser, path)
    made.locator("#problem-table table").wait_for()
    assert made.locator("#verdicts, #leaderboard, #paper").count() == 0 and told == []
