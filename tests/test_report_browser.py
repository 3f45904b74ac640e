"""The HTML report in a browser: no request, no script, no complaint, and it fits; a bad page does not."""

import os

import pytest

from tests.browser import Chromium, find_chromium
from tests.test_report_html import BARE, PAGES, html

CHROMIUM = find_chromium()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        if os.environ.get("TEST_BROWSER") == "required":
            pytest.fail("no Chromium here, and .ci/run requires one")
        pytest.skip("no Chromium here: test_report_html.py parses what a browser would show")
    with Chromium(CHROMIUM) as browser:
        yield browser


@pytest.mark.parametrize("name", ["sheet", "several", "hostile"])
def test_in_a_browser_it_is_quiet_and_fits(browser, name, tmp_path) -> None:
    file = tmp_path / "report.html"
    file.write_text(PAGES[name](), encoding="utf-8")
    for width, dark in ((1280, False), (390, True)):
        browser.open(file, width, dark)
        assert browser.complaints == []
        asked = [address for address in browser.requests if not address.startswith("data:image/png;base64,")]
        assert asked == [file.as_uri()]
        assert browser.evaluate("[document.scripts.length, typeof window.pwned]") == [0, "undefined"]
        assert browser.evaluate("document.documentElement.scrollWidth") == width
        assert browser.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(17, 19, 22)" if dark else "rgb(246, 245, 242)")
    assert browser.pdf().startswith(b"%PDF")
    # On paper it is light, whatever the screen is.
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_the_browser_would_have_noticed(browser, tmp_path) -> None:
    file = tmp_path / "bad.html"
    bad = "<script>window.pwned=1</script><p style='color:red'><img src='http://127.0.0.1:9/x.png'>"
    file.write_text(html(BARE).replace("</body>", bad + "</body>"), encoding="utf-8")
    browser.open(file, 1280)
    assert len(browser.complaints) >= 3
    assert browser.evaluate("typeof window.pwned") == "undefined"
    file.write_text(bad, encoding="utf-8")
    browser.open(file, 1280)
    assert browser.evaluate("window.pwned") == 1
    assert "http://127.0.0.1:9/x.png" in browser.requests
