"""The HTML report: one file that needs nothing else, says what the others say, and obeys no word of a file.

After a wanted change, `python -m tests.test_report_html` writes the golden file anew; read the difference
before you keep it.
"""

import base64
import dataclasses
import hashlib
import io
import itertools
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from loraudit.findings.exhibits import Distribution, ModuleNorm, Sheet, SheetRow
from loraudit.findings.finding import Allowed, Score
from loraudit.findings.report import Report, Target
from loraudit.report import FORMATS
from loraudit.report.figures import block_shares, control_plots, histogram, key_plot, largest_module
from tests.test_report_formats import CLEAN, REPORT, SEVERAL, hostile

GOLDEN = Path(__file__).parent / "golden" / "report.html"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
SHEET = Sheet(
    "paper",
    (0, 1),
    (
        SheetRow("reference", (PNG,)),
        *(SheetRow(kind, (PNG, PNG)) for kind in ("tuned", "base", "scrambled")),
    ),
    pixelated=True,
)
WITH_SHEET = dataclasses.replace(REPORT, sheet=SHEET)
BARE = Report("0.1.0", Target("x.safetensors"))
VOID = {"meta", "img", "br"}

ATTACK = (
    """"'><script>window.pwned=1</script><img src=http://h.invalid/x onerror=window.pwned=1>"""
    """</style></title>--><a href="javascript:window.pwned=1">{{ 7*7 }}{% if %}${7*7}&lt;\x00\u202e"""
)


def html(*reports: Report, **options: bool) -> str:
    return FORMATS["html"](reports, **options)


def hostile_page() -> str:
    """A page in which every free text is an attack on a browser."""

    def poisoned(value):
        if isinstance(value, str):
            return ATTACK
        if isinstance(value, tuple):
            return tuple(map(poisoned, value))
        if isinstance(value, dict):
            return {poisoned(key): poisoned(inner) for key, inner in value.items()}
        if dataclasses.is_dataclass(value):
            fields = (field.name for field in dataclasses.fields(value) if field.name != "kind")
            return dataclasses.replace(value, **{name: poisoned(getattr(value, name)) for name in fields})
        return value

    report = poisoned(dataclasses.replace(hostile(), sheet=SHEET))
    return html(report, report, reveal=True)


class Page(HTMLParser):
    """Every tag with its attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def of(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


PAGES = {
    "sheet": lambda: html(WITH_SHEET),
    "several": lambda: html(*SEVERAL),
    "none": html,
    "bare": lambda: html(BARE),
    "hostile": hostile_page,
}


@pytest.fixture(params=PAGES)
def page(request) -> str:
    return PAGES[request.param]()


def test_golden() -> None:
    assert html(WITH_SHEET) == GOLDEN.read_text(encoding="utf-8")


def test_it_asks_for_nothing_and_runs_nothing(page) -> None:
    parsed = Page(page)
    assert not {tag for tag, _ in parsed.tags} & {"script", "link", "iframe", "object", "form", "base"}
    names = {name for _, attributes in parsed.tags for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in {"style", "srcset", "xlink:href"}]
    assert all((attributes["href"] or "").startswith("#") for attributes in parsed.of("a"))
    assert all((it["src"] or "").startswith("data:image/png;base64,") for it in parsed.of("img"))
    for _, attributes in parsed.tags:
        told = [value or "" for name, value in attributes.items() if name != "alt"]
        assert not [value for value in told if re.search(r"https?:|//|javascript:|url\(", value)]
    style = page[page.index("<style>") + 7 : page.index("</style>")]
    assert not re.search(r"url\(|@import|https?:", style)


def test_its_policy_allows_its_own_style_alone(page) -> None:
    (policy,) = (it["content"] for it in Page(page).of("meta") if "http-equiv" in it)
    style = page[page.index("<style>") + 7 : page.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    # A policy counts for what stands below it.
    assert page.index("Content-Security-Policy") < page.index("<style>") < page.index("<body>")


def test_words_of_a_file_stay_words() -> None:
    text = hostile_page()
    told = "".join(Page(text).words)
    shown = ATTACK.replace("\x00", r"\x00").replace("\u202e", r"\u202e")
    assert told.count(shown) > 20
    assert "49" not in told.replace("sha256", "")
    assert "<script" not in text and "\x00" not in text


def test_headings_tables_and_pictures_can_be_told_apart_without_eyes(page) -> None:
    parsed = Page(page)
    assert parsed.of("html") == [{"lang": "en"}]
    assert len(parsed.of("title")) >= 1 and len(parsed.of("main")) == 1
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))
    assert all(it["scope"] in {"col", "row", "rowgroup"} for it in parsed.of("th"))
    assert len(parsed.of("table")) == len(parsed.of("caption"))
    alts = [it["alt"] for it in parsed.of("img")]
    assert all(alts)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in parsed.tags:
        label = attributes.get("aria-labelledby")
        assert label is None or label in ids
    assert all(it["href"][1:] in ids for it in parsed.of("a"))
    # A figure has words of its own, or stands beside the same in words; what scrolls is reached by keys.
    assert all(it.get("aria-hidden") == "true" or it.get("role") == "img" for it in outer_figures(parsed))
    for it in parsed.of("svg", "div"):
        if it.get("role"):
            assert it.get("aria-label") or it.get("aria-labelledby")
        assert ("tabindex" in it) == (it.get("class") == "scroll")


def outer_figures(parsed: Page) -> list[dict[str, str | None]]:
    """Of the SVGs, those that are in no other."""
    return [it for it in parsed.of("svg") if it.get("x") is None]


def test_pictures_are_whole(page) -> None:
    sources = [it["src"].partition(",")[2] for it in Page(page).of("img")]
    for source in set(sources):
        with Image.open(io.BytesIO(base64.b64decode(source, validate=True))) as picture:
            picture.load()
            assert picture.format == "PNG"


def test_the_verdict_comes_first_and_everything_is_there() -> None:
    text = html(WITH_SHEET)
    (reason,) = REPORT.verdict.reasons
    order = (reason, "What came back", "More than chance?", "Findings", "Where the file changes the model")
    order = (*order, "Scores", "Not looked at", "To reproduce it")
    assert tuple(re.findall(r"<h[12]>(.*?)</h[12]>", text)) == order
    told = " ".join("".join(Page(text).words).split())
    assert "out of memory at 16 samples" in told and "0 to 14, 99" in told
    for finding in REPORT.findings:
        assert finding.title in told and finding.remedy in told and finding.anchor in told
    for words in (REPORT.target.sha256, "ab" * 32, "calibration-tiny, 240 control LoRAs", "Jane Doe"):
        assert (words in told) == (words != "Jane Doe")


def test_what_does_not_count_is_shown_as_such() -> None:
    allowed = dataclasses.replace(REPORT.findings[0], allowed=Allowed("the subject <agreed>", "2027-01-01"))
    told = "".join(Page(html(dataclasses.replace(REPORT, findings=(allowed,)))).words)
    assert "the subject <agreed>" in told and "1 allowed" in told


def test_what_is_not_there_has_no_heading() -> None:
    told = "".join(Page(html(CLEAN)).words)
    assert "What came back" not in told and "Scores" not in told.replace("--", "")
    assert "data:image" not in html(REPORT)
    told = "".join(Page(html(BARE)).words)
    assert "NOT SCANNED" in told and "Findings" not in told and "Where the file" not in told


def test_shares_of_blocks_add_up_and_the_rest_is_one_line() -> None:
    update = tuple(
        ModuleNorm(f"unet.{part}.{i}.x.{end}", 1.0 + i + len(end))
        for part in ("down_blocks", "up_blocks", "strange")
        for i in range(4)
        for end in ("to_q", "to_value")
    ) + tuple(ModuleNorm(f"text_encoder.encoder.layers.{i}.q", 0.1) for i in range(12))
    shares = block_shares(update)
    assert len(shares) == 11 and shares[-1].name == "11 other blocks"
    assert sum(share.percent for share in shares) == pytest.approx(100, abs=0.1)
    assert sum(share.modules for share in shares) == len(update)
    assert {"U-Net, down block 3", "U-Net, up block 3"} <= {share.name for share in shares}
    assert [share.percent for share in shares[:-1]] == sorted((s.percent for s in shares[:-1]), reverse=True)
    assert largest_module(update)[0] == "unet.down_blocks.3.x.to_value"


@pytest.mark.parametrize("norms", [(), (0.0,), (math.nan,), (math.inf, math.nan)])
def test_an_update_of_nothing_is_not_drawn(norms) -> None:
    update = tuple(ModuleNorm("unet.mid_block.x", norm) for norm in norms)
    assert block_shares(update) == [] and largest_module(update) is None
    assert "Where the file" not in html(dataclasses.replace(REPORT, update=update))


def test_a_histogram_holds_every_lora_and_says_so() -> None:
    plot = histogram(Distribution("agreement", 0.5, (0.0, 0.1, 0.5, 1.0), (0.9, 0.2)))
    assert "Of 4 LoRAs that hold no single person, 2 reach as much." in plot.told
    assert "Of 2 LoRAs of one person each, 1 reaches as much." in plot.told
    assert [bar.x for bar in plot.harmless] == [0, 8, 48, 96] and plot.here == 50
    assert all(bar.x + bar.width <= 100 for bar in (*plot.harmless, *plot.leaking))
    crowd = histogram(Distribution("likeness", 0.0, (0.0,) * 999 + (0.9,)))
    assert max(bar.height for bar in crowd.harmless) / min(bar.height for bar in crowd.harmless) < 30
    assert "of somebody else, 1000 reach" in crowd.told and crowd.leaking == ()
    assert histogram(Distribution("agreement", math.nan, (0.0,))) is None
    assert histogram(Distribution("agreement", 0.5, (math.nan,))) is None


def test_the_controls_stand_beside_the_attack_that_speaks() -> None:
    (plot,) = control_plots(REPORT)
    assert [(mark.kind, mark.value) for mark in plot.marks] == [
        ("here", "76 %"),
        ("base", "0.8 %"),
        ("scrambled", "1.7 %"),
    ]
    assert plot.chance == pytest.approx(30.83)
    odd = Score("consistency", "paper", "each other", math.nan, 0)
    assert control_plots(dataclasses.replace(REPORT, scores=(odd,))) == []


def test_the_key_numbers_are_those_of_the_weightiest_finding() -> None:
    plots = control_plots(REPORT)
    assert key_plot(REPORT, plots) is plots[0]
    first, *others = REPORT.findings
    for id_ in ("LA-IDENTITY-002", "LA-NAME-001"):  # whose number the attack does not have; of no attack
        other = dataclasses.replace(first, id=id_)
        assert key_plot(dataclasses.replace(REPORT, findings=(other, *others)), plots) is None
    assert key_plot(BARE, control_plots(BARE)) is None
    told = " ".join("".join(Page(html(REPORT)).words).split())
    verdict = told[: told.index("A lower bound")]
    assert "Pairs of pictures that show one face With the file 76 %" in verdict
    assert "Base model alone 0.8 % A scrambled copy 1.7 %" in verdict


def test_the_attack_that_decides_is_marked_in_words() -> None:
    page = Page(html(WITH_SHEET))
    words = " ".join(" ".join(page.words).split())
    assert "By the attack paper, which decides; one column is one seed." in words
    assert "With the file what came back decides" in words
    assert "paper decides faces" in words and "prompts:trigger decides" not in words
    assert words.count(" decides") == 3 and "Decides: the attack that" in words
    second = dataclasses.replace(
        REPORT.findings[1], severity=REPORT.findings[0].severity, numbers={"attack": "prompts:trigger"}
    )
    other = " ".join(Page(html(dataclasses.replace(WITH_SHEET, findings=(second,)))).words)
    assert "prompts:trigger decides" in " ".join(other.split())
    assert "By the attack paper; one column" in " ".join(other.split())
    without = html(dataclasses.replace(WITH_SHEET, findings=()))
    assert "decides" not in without.lower().partition("<body>")[2]


def test_a_cosine_is_no_percentage() -> None:
    """A likeness is a mean cosine; a share of pairs stays a share."""
    harmless, leaking = (0.1, 0.25), (0.5, 0.75)
    likeness = histogram(Distribution("likeness", 0.625, harmless, leaking))
    agreement = histogram(Distribution("agreement", 0.625, harmless, leaking))
    assert (likeness.value, agreement.value) == ("0.62", "62 %")
    assert "%" not in likeness.told and likeness.told.startswith("This file: 0.62. Of 2 LoRAs")
    assert [label for _, label in likeness.ticks] == ["0", "0.25", "0.5", "0.75", "1"]
    assert [label for _, label in agreement.ticks] == ["0 %", "25 %", "50 %", "75 %", "100 %"]
    assert (likeness.here, likeness.harmless) == (agreement.here, agreement.harmless)
    report = dataclasses.replace(
        BARE,
        distributions=(Distribution("likeness", 0.625, harmless),),
        scores=tuple(
            Score(name + end, "paper", against, value, 16, value, value, value)
            for name, against in (("cosine", "reference"), ("clip-i", "reference"), ("clip-t", "true prompt"))
            for end, value in (("", 0.8125), (".base", 0.4375), (".scrambled", -0.0625))
        ),
    )
    for name, render in FORMATS.items():
        out = render([report], width=200)
        told = " ".join(Page(out).words) if name == "html" else out
        assert not re.search(r"\b(81|82|44|43|6|62|63)(\.\d+)? ?%", told), name


def test_a_place_among_people_is_a_whole_number() -> None:
    scores = tuple(
        Score(f"rank{end}", "paper", "reference among 100", place, 1, null_p95=34.0)
        for end, place in (("", 1.0), (".base", 34.0))
    )
    told = Page(html(dataclasses.replace(REPORT, scores=scores))).words
    assert "1" in told and "34" in told
    assert not {"1.000", "34.000"} & set(told)  # neither as a share, nor as what chance reaches


if __name__ == "__main__":
    GOLDEN.write_text(html(WITH_SHEET), encoding="utf-8")
