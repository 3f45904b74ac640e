"""Pages, cards and the README keep the rules of prose that a machine can check.

They wrap at 100 columns, no sentence has more than 25 words, and none begins with a pronoun alone, whose noun
would be in another sentence. docs/rules.md is made of the rules' own texts and is left out.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        ROOT / "README.md",
        *(page for page in ROOT.glob("docs/*.md") if page.name != "rules.md"),
        *ROOT.glob("models/*/CARD.md"),
    ]
)
COLUMNS = 100
WORDS = 25
CODE_BLOCK = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
NO_PROSE = re.compile(r"^(?:\||#|<!--|!\[).*$", re.MULTILINE)
"""Tables, headings, comments and pictures."""
PRONOUN = re.compile(r"(?:It|They|This|That|These|Those) (?:is|are|was|were|has|have|does|says|can|needs)\b")


def sentences(text: str) -> Iterator[str]:
    """Each sentence of a page; code in a line is one word, an interval none."""
    text = NO_PROSE.sub("\n", CODE_BLOCK.sub("\n\n", text))
    text = re.sub(r"`[^`]+`", "CODE", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\[-?[\d.]+, -?[\d.]+\]", "", text).replace("*", "")
    for paragraph in re.split(r"\n\s*\n|\n(?= *(?:-|\d+\.) )", text):
        joined = re.sub(r"^(?:-|\d+\.) ", "", " ".join(paragraph.split()))
        yield from filter(None, re.split(r"(?<=[.!?])[)\"]? +", joined))


def broken(text: str) -> list[str]:
    """What of a page breaks a rule."""
    found = [
        line
        for line in NO_PROSE.sub("", CODE_BLOCK.sub("", text)).splitlines()
        if len(line) > COLUMNS and not re.fullmatch(r"\s*(?:- )?`[^`]+`\S*", line)
    ]
    for sentence in sentences(text):
        words = [word for word in sentence.split() if re.search(r"\w", word)]
        if len(words) > WORDS or PRONOUN.match(sentence):
            found.append(sentence)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(list(sentences(text))) > 2
    assert broken(text) == []


def test_the_check_notices() -> None:
    long = "\n".join(["one two three four five"] * 5)
    assert broken(f"{long}. Short. `a b c` [d e](f g).") == []
    assert len(broken(f"{long} six. Short.")) == 1
    assert len(broken("x" * (COLUMNS + 1))) == 1
    assert broken(f"| {'x' * COLUMNS} |\n\n```\n{'x y ' * COLUMNS}\n```\n# {'x ' * COLUMNS}\n") == []
    assert broken("A LoRA has a rank. It is small.") == ["It is small."]
    assert broken("- A LoRA has a rank\n- This is an item") == ["This is an item"]


SOURCES = sorted(
    file for folder in ("loraudit", "models/recipes", "benchmarks") for file in (ROOT / folder).rglob("*.py")
)
WRONG_STARTS = {
    "Of",
    "Those",
    "That",
    "As",
    "What",
    "Whether",
    "Whom",
    "Which",
    "Where",
    "How",
    "Who",
    "It",
    "They",
    "This",
    "These",
}


def docstrings(source: str) -> Iterator[str]:
    """Every string that stands alone: of modules, classes, functions, and below fields and constants."""
    for node in ast.walk(ast.parse(source)):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


def wrong_starts(source: str) -> list[str]:
    return [text for text in docstrings(source) if text.split()[0].strip("`.,:") in WRONG_STARTS]


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_begin_with_their_verb_or_noun(file: Path) -> None:
    assert wrong_starts(file.read_text(encoding="utf-8")) == []


def test_the_check_of_docstrings_notices() -> None:
    source = 'x = 1\n"""Of the first picture."""\ndef f():\n    """Return it."""\n'
    assert wrong_starts(source) == ["Of the first picture."]
    assert sum(len(list(docstrings(file.read_text(encoding="utf-8")))) for file in SOURCES) > 1000
