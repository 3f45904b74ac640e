"""Every script and command that docs, cards and docstrings name is there, with the options they give it."""

import re
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from loraudit.cli.app import app

ROOT = Path(__file__).parent.parent
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("models/*/CARD.md")])
FOLDERS = ("loraudit", "models/recipes", "benchmarks", "tests")
SOURCES = [
    file
    for name in FOLDERS
    for file in sorted(ROOT.glob(f"{name}/**/*.py"))
    if file.name != Path(__file__).name
]
COMMAND = re.compile(r"\bpython (?:-m ([\w.]+)|([\w/]+\.py))((?:[^`\n\\]|\\+\n)*)")
INSTALLED = {"pip", "venv", "pytest", "zipfile", "http.server"}
"""Modules that are not this project's."""


def commands(text: str) -> Iterator[tuple[Path, list[str]]]:
    """Script and options of each `python ...` in a page."""
    for module, file, rest in COMMAND.findall(text):
        if module.split(".")[0] not in INSTALLED | {"X"}:
            words = shlex.split(
                re.sub(r"\\+\n", " ", rest).replace("[", " ").replace("]", " "), comments=True
            )
            options = [word.split("=")[0] for word in words if re.match(r"--[a-z]", word)]
            yield Path(file or module.replace(".", "/") + ".py"), options


def wrong(text: str) -> list[str]:
    """What a page names that is not there."""
    found = []
    for script, options in commands(text):
        path = ROOT / script
        path = path if path.is_file() else path.with_suffix("") / "__main__.py"
        if not path.is_file():
            found.append(str(script))
            continue
        source = path.read_text(encoding="utf-8")
        if "__main__" not in source and path.name != "__main__.py":
            found.append(f"{script} runs nothing")
        found += [f"{script} {option}" for option in options if f'"{option}"' not in source]
    return found


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_docs_and_cards(page: Path) -> None:
    assert wrong(page.read_text(encoding="utf-8")) == []


def test_sources() -> None:
    found = {file: wrong(file.read_text(encoding="utf-8")) for file in SOURCES}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(("pages", "least"), [(DOCS, 60), (SOURCES, 25)], ids=["docs", "sources"])
def test_there_are_scripts(pages: Collection[Path], least: int) -> None:
    assert sum(len(list(commands(page.read_text(encoding="utf-8")))) for page in pages) > least


def test_the_check_notices() -> None:
    page = (
        "`python -m loraudit.experiments.face_roc --people 4`\n"
        "`python -m benchmarks.tables.face_roc --no-such 1`\n"
        "python -m benchmarks.tables.face_roc \\\n    --people 4 --wrong\n`python -m loraudit.bench.panel`"
    )
    assert wrong(page) == [
        "loraudit/experiments/face_roc.py",
        "benchmarks/tables/face_roc.py --no-such",
        "benchmarks/tables/face_roc.py --wrong",
        "loraudit/bench/panel.py runs nothing",
    ]


def options() -> dict[str, set[str]]:
    """Options of each command of loraudit, by its name; of all together by the empty name."""

    def walk(command: Any, name: str) -> Iterator[tuple[str, set[str]]]:
        yield name, {text for one in command.params for text in (*one.opts, *one.secondary_opts)} | {"--help"}
        context = typer.Context(command)
        for part in command.list_commands(context) if hasattr(command, "list_commands") else ():
            yield from walk(command.get_command(context, part), f"{name} {part}".strip())

    return dict(walk(typer.main.get_command(app), ""))


OPTIONS = options()
CALL = re.compile(r"(?<![\w.])loraudit ([a-z][a-z-]*)(?: ([a-z]+))?((?:[^`\n\\|>&;]|\\+\n)*)")


def wrong_calls(text: str) -> list[str]:
    """What a text gives to a command of loraudit that it does not take."""
    found = []
    for name, part, rest in CALL.findall(text):
        known = OPTIONS.get(f"{name} {part}", OPTIONS.get(name))
        if known is not None:
            given = re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)
            found += [f"{name} {option}" for option in given if option not in known]
    return found


# The changelog keeps the names that options had.
@pytest.mark.parametrize(
    "page",
    [page for page in DOCS if page.name != "CHANGELOG.md"],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_commands_of_loraudit_take_what_pages_give_them(page: Path) -> None:
    assert wrong_calls(page.read_text(encoding="utf-8")) == []


def test_options_that_messages_and_docstrings_name_exist() -> None:
    known = set().union(*OPTIONS.values())
    named = 0
    for file in sorted(ROOT.glob("loraudit/**/*.py")):
        # Arrows of a drawing have a dash on either side, and a script's own usage is another test's.
        others = r"(?:python -m|hf download|curl).*(?:\\\n.*)*|--\w+--.*"
        text = re.sub(others, "", file.read_text(encoding="utf-8"))
        found = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
        assert found <= known, (file, found - known)
        named += len(found)
    assert named > 100


def test_the_check_of_calls_notices() -> None:
    page = "`loraudit bench verdict --out x --leaking y`, `loraudit scan x --depth weights \\\n --deep`\n"
    assert wrong_calls(page) == ["bench --out", "scan --deep"]
