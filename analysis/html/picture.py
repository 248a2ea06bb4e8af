"""A picture of the page, as the README shows it: taken in a Chromium without a window."""

import shutil
from pathlib import Path

from tasks.errors import UserError

SIZE = {"width": 1280, "height": 860}
# The last of the charts that are near the top has been drawn.
DRAWN = "document.querySelector('#board-charts .chart svg.marks') !== null"


def chromium() -> str | None:
    """The path of a Chromium; None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def take_picture(page: Path, picture: Path) -> None:
    """Write a picture of the top of a page.

    Raises:
        UserError: if Playwright or Chromium is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise UserError("a picture needs Playwright: pip install playwright") from error
    if (path := chromium()) is None:
        raise UserError("a picture needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        # In a container one is root, which Chromium's sandbox refuses; the page is our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        view = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
        view.goto(page.resolve().as_uri())
        view.wait_for_function(DRAWN)
        view.screenshot(path=picture)
        browser.close()
