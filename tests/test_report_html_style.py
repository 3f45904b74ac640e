"""The colours of the HTML report: every text stands out, on light screens, on dark ones and on paper."""

import re

import pytest

from tests.test_report_html import BARE, Page, html


def luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """As WCAG 2.2 defines it."""
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def stylesheet() -> str:
    text = html(BARE)
    return text[text.index("<style>") + 7 : text.index("</style>")]


def themes() -> dict[str, dict[str, str]]:
    """The colours by name, of a light screen, of a dark one and of paper."""
    light, dark, paper = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))
        for block in re.findall(r":root \{(.*?)\}", stylesheet(), re.DOTALL)
    )
    return {"light": light, "dark": dark, "paper": light | paper}


LEVELS = ("critical", "high", "medium", "low", "inconclusive", "none")


@pytest.mark.parametrize("theme", ["light", "dark", "paper"])
def test_text_stands_out(theme) -> None:
    colours = themes()[theme]
    for name in ("ink", "soft", *LEVELS):
        for ground in ("page", "card"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for level in LEVELS:
        assert contrast(colours["on-level"], colours[level]) >= 4.5, level
    for name in ("harmless", *LEVELS):  # marks of figures
        assert contrast(colours[name], colours["card"]) >= 3, name
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_no_text_has_another_colour() -> None:
    """So those that `test_text_stands_out` holds to a contrast are all that there are."""
    rules = re.sub(r":root \{.*?\}", "", stylesheet(), flags=re.DOTALL)
    assert not re.search(r"#[0-9a-f]{3,8}\b|rgb|hsl", rules)
    found = {
        kind: set(re.findall(rf"[ ;{{]{kind}: ([^;]+);", rules)) for kind in ("color", "background", "fill")
    }
    assert found["color"] == {f"var(--{name})" for name in ("ink", "soft", "level", "on-level")} | {"inherit"}
    assert found["background"] <= {
        f"var(--{name})" for name in ("page", "card", "level", "track", "harmless")
    }
    faded = re.findall(r"^([^{]*)\{[^}]*opacity", rules, re.MULTILINE)
    assert faded and all(re.search(r"rect|circle|\.key", selectors) for selectors in faded)


def test_dark_is_of_screens_alone_and_both_are_announced() -> None:
    style = stylesheet()
    assert style.count("prefers-color-scheme") == 1
    assert "@media screen and (prefers-color-scheme: dark) {" in style
    assert "color-scheme: light dark" in style
    metas = {it.get("name"): it["content"] for it in Page(html(BARE)).of("meta") if "content" in it}
    assert metas["color-scheme"] == "light dark"
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert metas["referrer"] == "no-referrer"
