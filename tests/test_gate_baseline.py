"""One baseline for every way to name a file: alone, in a folder, among others; and for earlier releases."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loraudit.findings.finding import Confidence, Finding, Severity
from loraudit.findings.fingerprints import fingerprint
from loraudit.findings.report import Report, Target
from loraudit.gate.baseline import read_baseline
from loraudit.report.json_v1 import render
from tests.headers import KOHYA, write

Scan = Callable[..., tuple[int, str, str]]
METADATA = ("--depth", "metadata", "--fail-on", "low")
EARLIER = Path(__file__).parent / "earlier"
WORDS = Finding(
    "LA-NAME-001", Severity.HIGH, Confidence.HIGH, "T.", "D.", "R.", places=("ss_dataset_dirs", "ss_datasets")
)
WEIGHTS = Finding("LA-IDENTITY-001", Severity.HIGH, Confidence.HIGH, "T.", "D.", "R.")


@pytest.fixture
def loras(tmp_path: Path) -> Path:
    folder = tmp_path / "loras"
    folder.mkdir()
    write(folder / "jane.safetensors", KOHYA)
    return folder


def baseline_of(scan: Scan, path: Path, *targets: object) -> Path:
    assert scan(*targets, *METADATA, "-f", "json", "-o", path)[0] == 1
    return path


def saved(path: Path, *reports: Report) -> Path:
    path.write_text(render(reports), encoding="utf-8")
    return path


def knows(path: Path, target: Target, finding: Finding, folder: str = "") -> bool:
    return read_baseline(path).knows(target, finding, folder)


def test_a_second_file_leaves_the_first_known(scan: Scan, loras: Path, tmp_path: Path) -> None:
    baseline = baseline_of(scan, tmp_path / "b.json", loras)
    assert scan(loras, *METADATA, "--baseline", baseline)[0] == 0
    write(loras / "clean.safetensors", {})
    assert scan(loras, *METADATA, "--baseline", baseline)[0] == 0
    write(loras / "mary.safetensors", KOHYA)
    code, out, _ = scan(loras, *METADATA, "--baseline", baseline, "-f", "json")
    known = {
        report["target"]["name"]: {finding["known"] for finding in report["findings"]}
        for report in json.loads(out)["reports"]
    }
    assert code == 1
    assert known == {"clean.safetensors": set(), "jane.safetensors": {True}, "mary.safetensors": {False}}


def test_a_file_that_goes_leaves_the_other_known(scan: Scan, loras: Path, tmp_path: Path) -> None:
    write(loras / "mary.safetensors", KOHYA)
    baseline = baseline_of(scan, tmp_path / "b.json", loras)
    (loras / "mary.safetensors").unlink()
    assert scan(loras, *METADATA, "--baseline", baseline)[0] == 0
    (loras / "jane.safetensors").rename(loras / "anna.safetensors")
    assert scan(loras, *METADATA, "--baseline", baseline)[0] == 1, "a file that was not there"


@pytest.mark.parametrize("inner", ["", "deep", "deep/er"])
def test_a_hook_and_a_build_share_a_baseline(
    scan: Scan, loras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inner: str
) -> None:
    """A hook names files, a build a folder, from the same working folder or from others."""
    (loras / inner).mkdir(parents=True, exist_ok=True)
    files = [write(loras / inner / name, KOHYA) for name in ("jane.safetensors", "mary.safetensors")]
    ways = [files, [loras], [loras, tmp_path / "more"], [tmp_path], files[::-1]]
    (tmp_path / "more").mkdir()
    write(tmp_path / "more" / "clean.safetensors", {})
    if inner:
        (loras / "jane.safetensors").unlink()
    for number, way in enumerate(ways):
        monkeypatch.chdir(tmp_path if number % 2 else "/")
        baseline = baseline_of(scan, tmp_path / f"{number}.json", *way)
        for other in ways:
            assert scan(*other, *METADATA, "--baseline", baseline)[0] == 0


def test_the_name_of_the_folder_does_not_matter(scan: Scan, loras: Path, tmp_path: Path) -> None:
    """Not even where it names somebody, so that the words found change."""
    baseline = baseline_of(scan, tmp_path / "b.json", loras)
    renamed = loras.rename(tmp_path / "jane doe")
    assert scan(renamed, *METADATA, "--baseline", baseline)[0] == 0
    baseline = baseline_of(scan, tmp_path / "b.json", renamed)
    write(renamed / "clean.safetensors", {})
    assert scan(renamed, *METADATA, "--baseline", baseline)[0] == 0


def test_files_of_a_name_that_trainers_give_need_their_folder(tmp_path: Path) -> None:
    for name in ("adapter_model.safetensors", "pytorch_lora_weights.safetensors"):
        jane, mary = (Target(f"{who}/{name}", path=f"loras/{who}/{name}") for who in ("jane", "mary"))
        baseline = saved(tmp_path / "b.json", Report("0", jane, (WORDS,)))
        assert knows(baseline, jane, WORDS)
        assert knows(baseline, Target(name, path=f"loras/jane/{name}"), WORDS), "the file named itself"
        assert knows(baseline, Target(f"jane/{name}"), WORDS), "from another working folder"
        assert not knows(baseline, mary, WORDS)
        assert not knows(baseline, Target(name, path=f"loras/mary/{name}"), WORDS)


def test_fewer_places_are_known_and_more_are_new(tmp_path: Path) -> None:
    target = Target("a.safetensors")
    one = Finding(**{**WORDS.__dict__, "places": ("ss_dataset_dirs",)})
    assert knows(saved(tmp_path / "b.json", Report("0", target, (WORDS,))), target, one)
    assert not knows(saved(tmp_path / "b.json", Report("0", target, (one,))), target, WORDS)


def test_the_file_of_the_same_folder_comes_first(tmp_path: Path) -> None:
    low = Finding(**{**WORDS.__dict__, "severity": Severity.LOW})
    here, there = (Target(f"{folder}/x.safetensors") for folder in "ab")
    baseline = read_baseline(
        saved(tmp_path / "b.json", Report("0", there, (WORDS,)), Report("0", here, (low,)))
    )
    assert baseline.knows(here, low), "takes the finding of its own folder"
    assert baseline.knows(there, WORDS)
    assert not baseline.knows(there, WORDS)


def test_weights_are_known_by_their_bytes(tmp_path: Path) -> None:
    target = Target("loras/a.safetensors", sha256="0" * 64)
    baseline = saved(tmp_path / "b.json", Report("0", target, (WEIGHTS,)))
    assert knows(baseline, Target("a.safetensors", sha256="0" * 64), WEIGHTS)
    assert not knows(baseline, Target("a.safetensors", sha256="1" * 64), WEIGHTS)
    assert not knows(baseline, Target("b.safetensors", sha256="0" * 64), WEIGHTS)


# What releases before this one wrote: the name as it was shown went into the fingerprint.


@pytest.mark.parametrize("path", [None, "loras/x.safetensors"])
def test_an_earlier_baseline_of_the_only_file_of_a_folder(
    scan: Scan, tmp_path: Path, path: str | None
) -> None:
    folder = tmp_path / "loras"
    folder.mkdir()
    file = write(folder / "x.safetensors", KOHYA)
    baseline = baseline_of(scan, tmp_path / "b.json", folder)
    old = json.loads(baseline.read_text())
    old["target"] |= {"name": "loras", "path": path}
    for finding in old["findings"]:
        finding["fingerprint"] = "0" * 32
    baseline.write_text(json.dumps(old))
    assert scan(folder, *METADATA, "--baseline", baseline)[0] == 0
    assert scan(file, *METADATA, "--baseline", baseline)[0] == 0
    other = write(folder / "a.safetensors", KOHYA | {"ss_seed": "1", "ss_session_id": "1"})
    assert scan(other, *METADATA, "--baseline", baseline)[0] == 1, "another file of that folder"


def test_an_earlier_baseline_of_several_files(scan: Scan, tmp_path: Path) -> None:
    (tmp_path / "loras" / "b").mkdir(parents=True)
    for name in ("a.safetensors", "b/c.safetensors"):
        write(tmp_path / "loras" / name, KOHYA)
    baseline = baseline_of(scan, tmp_path / "b.json", tmp_path / "loras", tmp_path / "loras")
    old = json.loads(baseline.read_text())
    for report in old["reports"]:
        for finding in report["findings"]:
            finding["fingerprint"] = "0" * 32
    old["reports"] = old["reports"][:2]
    baseline.write_text(json.dumps(old))
    assert scan(tmp_path / "loras", *METADATA, "--baseline", baseline)[0] == 0
    assert scan(tmp_path / "loras", tmp_path / "loras", *METADATA, "--baseline", baseline)[0] == 1


def test_a_fingerprint_alone_serves(tmp_path: Path) -> None:
    """As long as a name is the same, whatever else a later release writes."""
    target = Target("a.safetensors")
    document = json.loads(render([Report("0", target, (WORDS,))]))
    document["findings"][0]["places"] = ["something else"]
    (tmp_path / "b.json").write_text(json.dumps(document))
    assert document["findings"][0]["fingerprint"] == fingerprint(target, WORDS)
    assert knows(tmp_path / "b.json", target, WORDS)
    document["findings"][0]["fingerprint"] = "0" * 32
    (tmp_path / "b.json").write_text(json.dumps(document))
    assert not knows(tmp_path / "b.json", target, WORDS)


@pytest.mark.parametrize("name", sorted(path.name for path in EARLIER.glob("*.json")))
def test_the_reports_of_earlier_releases_load_or_say_why(scan: Scan, loras: Path, name: str) -> None:
    code, _, err = scan(loras, *METADATA, "--baseline", EARLIER / name)
    assert code == 1 or (code == 2 and "by an earlier loraudit" in err)
    assert (code == 2) is ("fingerprint" not in (EARLIER / name).read_text())


@pytest.mark.parametrize("name", ["{}.safetensors", "{}/adapter_model.safetensors", "{}/x.safetensors"])
def test_a_large_baseline_is_no_work(tmp_path: Path, name: str) -> None:
    """Two thousand files, whatever their names: no finding is compared with every other."""
    targets = [Target(name.format(number), path=f"loras/{name.format(number)}") for number in range(2000)]
    baseline = read_baseline(
        saved(tmp_path / "b.json", *(Report("0", target, (WORDS,)) for target in targets))
    )
    started = time.process_time()
    assert all(baseline.knows(target, WORDS, "loras") for target in reversed(targets))
    assert time.process_time() - started < 2
    assert not any(baseline.knows(target, WORDS, "loras") for target in targets[:10])
