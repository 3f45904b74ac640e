"""The text rules take little time and memory for any file, and say what they left out."""

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loraudit.metadata import budget
from loraudit.metadata.budget import Budget, is_affordable, pieces, spending
from loraudit.metadata.nested import NotReadError, parse
from tests.headers import KOHYA, audit, write

SIZE = 6_500_000
LONG = "hf_" + "aB3dE5gH7jK9mN1pQ3sT5vX7zA9cE1gI3k"


def repeated(unit: str, size: int = SIZE) -> str:
    return f"[{','.join([unit] * (size // (len(unit) + 1)))}]"


def numbered(unit: str, size: int = SIZE) -> str:
    """An object of members `unit`, with their number in the place of `#`."""
    return f"{{{','.join(unit.replace('#', str(number)) for number in range(size // (len(unit) + 5)))}}}"


HOSTILE: dict[str, tuple[str, Callable[[], str]]] = {
    "nested objects": ("own", lambda: repeated('{"a":' * 900 + "1" + "}" * 900)),
    "nested lists": ("own", lambda: repeated("[" * 900 + "]" * 900)),
    "nested keys": ("own", lambda: numbered('"#":{"#":1}')),
    "flat keys": ("own", lambda: numbered('"k#":1')),
    "empty objects": ("own", lambda: repeated("{}")),
    "JSON that begins as text": ("own", lambda: repeated('"["')),
    "JSON as text": ("own", lambda: repeated(json.dumps(json.dumps({"a": "b c"})))),
    "people": ("people", lambda: numbered('"ada# b":1')),
    "folders of tags": ("ss_tag_frequency", lambda: numbered('"10_ada#":{"a":1}')),
    "folders": ("ss_dataset_dirs", lambda: numbered('"10_ada#":{"img_count":1}')),
    "data sets": ("ss_datasets", lambda: repeated('{"subsets":[{"image_dir":"/x/10_ada"}]}')),
    "merged": ("sshs_cp0", lambda: numbered('"sshs_cp#":{"ss_seed":"#"}')),
    "a graph": ("workflow", lambda: numbered('"#":{"inputs":{"text":"ada bee #"}}')),
    "passwords": ("own", lambda: repeated('{"password":"abcd"}')),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_json_without_end_costs_little_and_is_said(kind: str, tmp_path: Path) -> None:
    key, made = HOSTILE[kind]
    path = write(tmp_path / "x.safetensors", {**KOHYA, key: made()})
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    found = audit(path)
    assert time.process_time() - start < 2, "0.3 s where nothing else runs"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kB"
    assert "LA-HIDDEN-002" in found
    assert "LA-NAME-002" in found, "the other keys are looked at all the same"


@pytest.mark.parametrize(
    "text",
    [
        " ".join(f"a{number}@b.de" for number in range(300_000)),
        " ".join(f"/home/ada/{number}|" for number in range(300_000)),
        " ".join(f"+49 {number:09d} x" for number in range(300_000)),
        " ".join(f"hf_{number:05d}aBcDeFgHiJkLmNoPqRsTuVwXyZaBc" for number in range(100_000)),
    ],
    ids=["mail", "paths", "telephones", "secrets"],
)
def test_a_text_of_many_finds_costs_little(text: str, tmp_path: Path) -> None:
    start = time.process_time()
    found = audit(write(tmp_path / "x.safetensors", {"own": text}))
    assert time.process_time() - start < 2, "0.3 s where nothing else runs"
    assert {"LA-CONTACT-001", "LA-PATH-001", "LA-SECRET-001"} & set(found)
    assert "cDeFgHiJkLm" not in str(found)


def test_many_keys_of_words_cost_little_and_are_said(tmp_path: Path) -> None:
    table = {f"key {number}": "ada bee " * 80 for number in range(9_000)}
    start = time.process_time()
    found = audit(write(tmp_path / "x.safetensors", table))
    assert time.process_time() - start < 3, "0.5 s where nothing else runs"
    assert {"LA-HIDDEN-002", "LA-CAPTION-002"} <= set(found)


def test_a_text_too_dear_to_parse_is_searched_as_it_is(tmp_path: Path) -> None:
    dear = repeated("{}")[:-1] + f',"{LONG}"]'
    found = audit(write(tmp_path / "x.safetensors", {"own": dear}))
    assert {"LA-HIDDEN-002", "LA-SECRET-001"} <= set(found)
    assert LONG not in str(found)


def test_what_large_datasets_write_is_read_whole(tmp_path: Path) -> None:
    """The control: a file with 30,000 tags, told twice as kohya does, and a thumbnail of 5 MB."""
    tags = {f"a tag of {number}": number for number in range(30_000)}
    datasets = [{"subsets": [{"image_dir": "10_ada", "tag_frequency": {"10_ada": tags}}]}]
    told = {"ss_tag_frequency": json.dumps({"10_ada": tags}), "ss_datasets": json.dumps(datasets)}
    told["modelspec.thumbnail"] = "data:image/jpeg;base64,/9j/" + "A" * 5_000_000
    found = audit(write(tmp_path / "x.safetensors", {**KOHYA, **told}))
    assert "LA-HIDDEN-002" not in found
    assert {"LA-CAPTION-001", "LA-IMAGE-001"} <= set(found)


def test_a_budget_is_spent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_MARKS", 10)
    assert is_affordable("[" * 1000), "no budget is open"
    with spending(Budget()) as _, spending(inner := Budget(pictures=1)):
        assert is_affordable("[" * 10_000) and inner.refused == 0
    with spending(small := Budget()):
        assert parse("[1,2,3]") == [1, 2, 3]  # 3 marks of 10
        with pytest.raises(NotReadError):
            parse("[1,2,3,4,5,6,7,8]")
        assert small.refused == 1
        assert parse("[1,2,3,4]") == [1, 2, 3, 4]
        with pytest.raises(NotReadError):
            parse("[[[[[1]]]]]")


def test_pieces_lose_nothing_and_cut_no_word() -> None:
    text = "word " * 300_000 + "x" * 1_200_000 + "\nlast"
    parts = list(pieces(text))
    assert "".join(parts) == text and len(parts) > 4
    assert all(part.endswith(("word ", "x", "\n", "last")) for part in parts)
    assert list(pieces("")) == [] and list(pieces("short")) == ["short"]


def test_the_command_says_so(scan, tmp_path: Path) -> None:
    dear = write(tmp_path / "x.safetensors", {"own": repeated("{}", 1_000_000)})
    code, out, _ = scan(dear, "--depth", "metadata")
    assert code == 4 and "Part of the metadata could not be read" in out
