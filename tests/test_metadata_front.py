"""The front matter of a model card is read as YAML: block, folded, quoted texts; nothing is built of it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from loraudit.findings.finding import Severity
from loraudit.lora.source.source import find_source
from loraudit.metadata import front, read_exposure
from loraudit.metadata.front import CARD_BYTES, Front, front_matter
from tests.headers import DIFFUSERS, audit, write

PROMPT = "a photo of zwx woman in her kitchen"
SPELLINGS = {
    "plain": f"instance_prompt: {PROMPT}",
    "folded": "instance_prompt: >-\n  a photo of zwx woman\n  in her kitchen",
    "folded, with its line feed": "instance_prompt: >\n  a photo of zwx woman\n  in her kitchen",
    "literal": f"instance_prompt: |-\n  {PROMPT}",
    "quoted once": f"instance_prompt: '{PROMPT}'",
    "quoted twice": 'instance_prompt: "a photo of zwx woman\\\n    \\ in her\\x20kitchen"',
    "over two lines": "instance_prompt: a photo of zwx woman\n  in her kitchen",
    "tagged": f"instance_prompt: !!str {PROMPT}",
    "as JSON": f'{{"instance_prompt": "{PROMPT}"}}',
    "with a comment": f"instance_prompt: {PROMPT} # the prompt",
    "anchored": f"instance_prompt: &prompt {PROMPT}",
    "windows": f"license: mit\r\ninstance_prompt: {PROMPT}\r",
}


def card(matter: str) -> str:
    return f"---\n{matter}\n---\n# A LoRA\ninstance_prompt: no\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "lora"
    folder.mkdir()
    write(folder / "pytorch_lora_weights.safetensors", DIFFUSERS)
    return folder


@pytest.mark.parametrize("parser", ["CSafeLoader", "SafeLoader"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_prompt_however_it_is_spelled(folder: Path, spelling: str, parser: str, monkeypatch) -> None:
    monkeypatch.setattr(yaml, "CSafeLoader", getattr(yaml, parser), raising=False)
    (folder / "README.md").write_bytes(card(SPELLINGS[spelling]).encode())
    finding = audit(folder)["LA-CAPTION-002"]
    assert (finding.severity, finding.quotes) == (Severity.LOW, (PROMPT,))
    assert [text.strip() for text in read_exposure(find_source(folder)).triggers] == [PROMPT]
    (folder / "README.md").write_bytes(card(SPELLINGS[spelling]).encode().replace(b"instance_prompt", b"x"))
    assert audit(folder) == {}
    assert read_exposure(find_source(folder)).triggers == ()


@given(
    st.dictionaries(st.text(max_size=9), st.text(max_size=60) | st.lists(st.text(max_size=30)), max_size=5)
)
def test_what_a_yaml_writer_writes_is_read_back(values: dict) -> None:
    written = yaml.safe_dump(values, allow_unicode=False, default_flow_style=False)
    expected = [
        (key, text)
        for key, value in values.items()
        for text in ([value] if isinstance(value, str) else value)
    ]
    read = front_matter(f"---\n{written}---\n")
    assert read.whole
    assert sorted(read.texts) == sorted(expected)


def test_the_texts_of_a_card() -> None:
    matter = (
        "license: creativeml-openrail-m\nbase_model: /home/jdoe/sd\ntags:\n- lora\n- 1.50\nwidget:\n"
        "- text: >-\n    zwx at\n    sea\n  output:\n    url: image_0.png\n- [a, {b: c}]\nempty:\n"
        "last: 2024-06-10\nrule: |-\n  a\n  ---\n  b"
    )
    assert front_matter(card(matter)) == Front(
        (
            ("license", "creativeml-openrail-m"), ("base_model", "/home/jdoe/sd"), ("tags", "lora"),
            ("tags", "1.50"), ("text", "zwx at sea"), ("url", "image_0.png"), ("widget", "a"), ("b", "c"),
            ("empty", ""), ("last", "2024-06-10"), ("rule", "a\n---\nb"),
        )
    )  # fmt: skip
    assert front_matter("\ufeff---\r\na: b\r\n---\r\nc: d").texts == (("a", "b"),)
    for none in ("", "# Title\n---\na: b\n---\n", "a: b", "----\na: b\n", card("")):
        assert front_matter(none) == Front()


NOT_YAML = {
    "a colon too many": "instance_prompt: zwx: a woman",
    "a tab": "instance_prompt:\tzwx: a woman\n\tx",
    "a quote too few": 'instance_prompt: zwx: a woman\nx: "',
    "an alias": "x: &x a\ny: *x\ninstance_prompt: zwx: a woman",
}


@pytest.mark.parametrize("kind", NOT_YAML)
def test_what_is_no_yaml_is_read_by_line_and_said(folder: Path, kind: str) -> None:
    (folder / "README.md").write_text(card(NOT_YAML[kind]))
    found = audit(folder)
    assert found["LA-CAPTION-002"].quotes == ("zwx: a woman",)
    assert found["LA-HIDDEN-002"].severity is Severity.INCONCLUSIVE
    assert "README.md" in found["LA-HIDDEN-002"].detail and "scrub FILE" not in found["LA-HIDDEN-002"].remedy
    (folder / "README.md").write_text(card("instance_prompt: 'zwx: a woman'"))
    assert set(audit(folder)) == {"LA-CAPTION-002"}


HOSTILE = {
    "lists": "[" * 60_000,
    "lists of lines": "- " * 30_000,
    "mappings": "{a: " * 15_000,
    "keys": "? " * 30_000,
    "laughs": "a: &a [x,x]\n"
    + "".join(f"{b}: &{b} [*{a},*{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)),
    "itself": "a: &a [*a]",
    "anchors": "&a " * 20_000,
    "quotes": "'" * 65_000 + "x",
    "tags": "!" * 65_000,
    "spaces": "a:" + " " * 65_000 + "[",
    "bytes": "\x00\x1b\x9b",
    "a surrogate": "a: \ud800",
    "a letter beyond the last": 'a: "\\UFFFFFFFF"',
    "a version without end": "%YAML 1." + "9" * 5_000,
    "documents": "--- a\n" * 10_000,
    "an object": "a: !!python/object/apply:os.system [exit]\nb: !!python/name:os.system",
}


@pytest.mark.parametrize("parser", ["CSafeLoader", "SafeLoader"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_yaml_costs_little(kind: str, parser: str, monkeypatch) -> None:
    monkeypatch.setattr(yaml, "CSafeLoader", getattr(yaml, parser), raising=False)
    start = time.process_time()
    read = front_matter(f"---\n{HOSTILE[kind]}")
    assert time.process_time() - start < 2
    assert sum(len(key) + len(text) for key, text in read.texts) <= 2 * CARD_BYTES
    assert all(type(text) is str for _, text in read.texts)


@given(st.text(st.sampled_from("ab:-?#&*!|>'\"%@`{}[], \n\t\\\x00\u2028"), max_size=200))
def test_any_text_is_read(text: str) -> None:
    front_matter(f"---\n{text}")


@pytest.mark.parametrize(
    ("name", "content", "loaded"),
    [
        ("notes.txt", b"---\na: b\n---\n", ""),
        ("README.md", b"# No front matter\n", ""),
        ("README.md", b"---\na: b\n---\n", "yaml"),
        ("a.png", None, "PIL"),
        ("a.txt", b"a caption of no picture", ""),
    ],
)
def test_parsers_are_loaded_where_there_is_something_to_parse(
    folder: Path, name: str, content: bytes | None, loaded: str
) -> None:
    if content is None:
        Image.new("L", (1, 1)).save(folder / name)
    else:
        (folder / name).write_bytes(content)
    code = (
        "import sys; from pathlib import Path\n"
        "from loraudit.metadata import read_exposure\n"
        "from loraudit.lora.source.source import find_source\n"
        "read_exposure(find_source(Path(sys.argv[1])))\n"
        "print(*sorted({'PIL', 'yaml'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == loaded
    assert front.__name__ in sys.modules
