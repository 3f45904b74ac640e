"""Markdown: what comes from a file is shown by a viewer that also takes HTML, and obeyed by none.

markdown-it stands for such viewers. What GitHub does beyond it (links without brackets, people, issues,
pictures of `:words:`) works on text, so the text must not hold what it looks for.
"""

import dataclasses
import html
import re

import pytest
from markdown_it import MarkdownIt

from loraudit.findings.finding import Finding, Score
from loraudit.findings.report import Gap, Target
from loraudit.report import FORMATS
from tests.test_report_formats import CLEAN, REPORT, SEVERAL, hostile

OURS = {
    "h2", "h3", "p", "strong", "em", "code", "br", "ul", "li", "table", "thead", "tbody", "tr", "th", "td",
    "details", "summary",
}  # fmt: skip
BAD = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](https://evil/b.png)",
    "[x](javascript:alert(1)) [y]: https://evil",
    "<https://evil> https://evil www.evil.example jane@evil.example",
    "@jane #12 jane/x#12 :warning: $\\alpha$",
    "| a | b |\n| --- | --- |\n# head\n- item\n```\ncode",
    "`a` ``b`` \\`c *d* **e** _f_ ~~g~~ \\| \\\\| \\",
    "</code></details><h1>x</h1><!-- --> & &lt;b&gt; &amp; &#60;",
    "-->",
    "a\\",
)
GITHUB = re.compile(r"://|www\.|(?<![\w<])@\w|#\d|:\w+:", re.IGNORECASE)


def page(markdown: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)


def spoiled(text: str):
    """A report all of whose free texts end in `text`."""
    finding = dataclasses.replace(
        REPORT.findings[0], title=f"x {text}", detail=text, remedy=text, summary=text, quotes=(text,)
    )
    return dataclasses.replace(
        REPORT,
        target=dataclasses.replace(REPORT.target, name=text, dialect=text, sha256=text),
        findings=(finding,),
        scores=(Score(text, text, text, 0.5, 1),),
        incomplete=(Gap(text, text),),
    )


@pytest.mark.parametrize("text", BAD)
def test_inert(text):
    rendered = page(FORMATS["markdown"]([spoiled(text), CLEAN], reveal=True))
    before = page(FORMATS["markdown"]([spoiled("x"), CLEAN], reveal=True))
    rendered, before = (re.sub("<!-- -->", "\0", each) for each in (rendered, before))
    tags = re.findall(r"<[^>]*>", rendered)
    assert {re.sub(r"[</>]|\s.*", "", tag) for tag in tags} <= OURS
    # Not one element more or less than for a harmless word.
    assert [tag for tag in tags if "style" not in tag] == [
        tag for tag in re.findall(r"<[^>]*>", before) if "style" not in tag
    ]
    words = html.unescape(re.sub(r"<[^>]*>", " ", rendered))
    assert not GITHUB.search(words), GITHUB.search(words)
    # All of it is there for a reader.
    assert text.replace("\n", "\\x0a") in words.replace("\0", "")


def test_the_check_notices():
    assert GITHUB.search("see https://evil") and GITHUB.search("ask @jane") and GITHUB.search("a :tada: b")
    assert "<img" in page("![x](https://evil/b.png)") and "<script>" in page("<script>")


def test_hostile_characters_stay_inert_in_the_page():
    assert "<a" not in page(FORMATS["markdown"]([hostile()], reveal=True))


def test_a_report_of_too_much_is_cut_at_whole_sections():
    """GitHub drops a summary of more than 1 MiB."""
    many = [REPORT] * 500
    text = FORMATS["markdown"](many)
    assert 500_000 < len(text.encode()) <= 1_000_000
    assert text.endswith("more reports are left out here.*\n")
    assert "## loraudit: 500 targets" in text
    long = dataclasses.replace(
        REPORT,
        target=Target("<" * 10**6),
        findings=tuple(dataclasses.replace(REPORT.findings[0], detail="<" * 10**6) for _ in range(150)),
        incomplete=tuple(Gap("|" * 5000, "|" * 5000) for _ in range(5000)),
    )
    text = FORMATS["markdown"]([long])
    assert len(text.encode()) <= 1_000_000
    assert "1 more report is left out" in text


def test_the_worst_leads_a_table_of_several():
    rows = [line for line in FORMATS["markdown"](SEVERAL).splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:5]] == ["| HIGH", "| NOT SCANNED", "| NOTHING FOUND"]


def test_a_finding_without_a_remedy_has_no_empty_line():
    report = dataclasses.replace(REPORT, findings=(Finding(*("LA-X-001", *_levels()), "T", "D", ""),))
    assert "What to do" not in FORMATS["markdown"]([report])


def _levels():
    return REPORT.findings[0].severity, REPORT.findings[0].confidence
