"""Links in the documentation lead somewhere: to files, and to headings within them."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *ROOT.glob("models/*/CARD.md")]
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")


def prose(text: str) -> str:
    """A page without code, where brackets mean something else."""
    return CODE.sub("", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """Those that GitHub gives the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        number = 1
        name = plain
        while name in found:
            name, number = f"{plain}-{number}", number + 1
        found.add(name)
    return found


def broken(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere within the repository."""
    wrong = []
    for link in LINK.findall(prose(text)):
        if link.startswith(("https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        lost = not target.exists() or not target.is_relative_to(ROOT)
        if lost or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    assert broken(page, page.read_text(encoding="utf-8")) == []


def test_the_check_notices() -> None:
    page = ROOT / "docs" / "index.md"
    text = (
        "[a](rules.md#la-name-001) [b](nowhere.md) ![c](no.png) [d](rules.md#la-name-999) [e](#quick-start)"
    )
    assert broken(page, text) == ["nowhere.md", "no.png", "rules.md#la-name-999"]
    assert broken(page, "`[f](nowhere.md)`\n```\n[g](nowhere.md)\n```\n") == []
    assert broken(page, "[h](../../outside.md) [i](http://plain.example)") == [
        "../../outside.md",
        "http://plain.example",
    ]
    assert anchors("# A b\n## `c-d` (e)!\n# A b\n") == {"a-b", "c-d-e", "a-b-1"}


def test_every_page_is_on_the_site() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = set(re.findall(r"[\w-]+\.md", str(config["nav"])))
    assert listed == {page.name for page in ROOT.glob("docs/*.md")}
    assert config["strict"] is True
    assert set(config["validation"].values()) == {"warn"}, "and strict makes a warning fail"


def test_anchors_that_findings_give() -> None:
    from loraudit.verdict.catalogue import catalogue

    page = anchors((ROOT / "docs" / "rules.md").read_text(encoding="utf-8"))
    assert {rule.id.lower() for rule in catalogue()} <= page
