"""The Dockerfile, as far as it can be checked without an engine: it is not built anywhere yet."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
KNOWN = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD", "ENV", "ARG", "LABEL", "VOLUME"}


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each with its words; lines that end in a backslash go on."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in joined.splitlines():
        if line.strip() and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            yield word, rest.strip()


STEPS = list(instructions(TEXT))


def test_every_line_is_an_instruction() -> None:
    assert [word for word, _ in STEPS if word not in KNOWN] == []
    assert STEPS[0][0] == "FROM"
    assert all(rest for _, rest in STEPS)


def test_the_base_has_a_version_that_the_package_takes() -> None:
    name, _, tag = dict(STEPS)["FROM"].partition(":")
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    found = re.match(r"(\d+)\.(\d+)-slim$", tag)
    assert name == "python"
    assert found is not None
    assert tuple(map(int, found.groups())) >= tuple(map(int, needs.removeprefix(">=").split(".")))


def test_it_runs_as_somebody_without_rights() -> None:
    users = [rest for word, rest in STEPS if word == "USER"]
    assert users and int(users[-1]) > 0
    last_user = max(place for place, (word, _) in enumerate(STEPS) if word == "USER")
    assert f"useradd --create-home --uid {users[-1]} " in TEXT
    assert not any("pip" in rest for word, rest in STEPS[last_user:] if word == "RUN")


def test_the_entry_is_the_program() -> None:
    entry = json.loads(dict(STEPS)["ENTRYPOINT"])
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert entry == ["loraudit"] and entry[0] in scripts
    assert isinstance(json.loads(dict(STEPS)["CMD"]), list)


def test_what_is_copied_is_there_and_let_in() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for word, rest in STEPS:
        if word == "COPY":
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored, source
    assert "*" in ignored, "all else stays out: history, environments, what was made here"


def test_no_secret_and_no_fetched_model() -> None:
    assert not any(word in {"ARG", "ENV", "ADD"} for word, _ in STEPS)
    assert not re.search(
        r"(?i)token|password|secret|api_?key|hf_[a-z]|curl|wget|huggingface",
        "\n".join(rest for _, rest in STEPS),
    )
