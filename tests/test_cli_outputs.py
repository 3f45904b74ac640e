"""Where a report goes: several files of one run, streams that break off or are full, poor encodings.

A file is written whole or not at all, and said to be unwritable before the work rather than after it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loraudit.errors import LorauditError
from loraudit.report import FORMATS
from tests.headers import KOHYA, write

ROOT = Path(__file__).parent.parent
METADATA = ("--depth", "metadata", "--fail-on", "never")

Scan = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return write(tmp_path / "in" / "jane_doe.safetensors", KOHYA)


def loraudit(
    *arguments: object, before: str = "", after: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    """The command as a shell runs it, with what comes `before` and `after` it there."""
    words = " ".join(f"'{word}'" for word in (sys.executable, "-m", "loraudit", *arguments))
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{before} {words} {after}"],
        capture_output=True, text=True, check=False, cwd=ROOT, stdin=subprocess.DEVNULL,
        env=os.environ | env,
    )  # fmt: skip


def test_several_files_of_one_run(scan: Scan, lora: Path, tmp_path: Path) -> None:
    code, out, _ = scan(lora, *METADATA, "-o", f"json={tmp_path / 'a'}", "-o", f"text={tmp_path / 'b'}")
    assert code == 0
    assert "VERDICT: HIGH" in out
    assert json.loads((tmp_path / "a").read_text())["verdict"]["level"] == "high"
    assert (tmp_path / "b").read_text() == out


def test_a_plain_file_takes_what_would_go_to_stdout(scan: Scan, lora: Path, tmp_path: Path) -> None:
    options = ("-f", "json", "-o", tmp_path / "a=b.json", "-o", f"text={tmp_path / 'b'}")
    assert scan(lora, *METADATA, *options)[1] == ""
    assert json.loads((tmp_path / "a=b.json").read_text())["schema"] == "loraudit.report/1"
    assert "VERDICT" in (tmp_path / "b").read_text()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("@/gone/report",), "cannot write"),
        (("json=@/gone/report",), "cannot write"),
        (("json=@",), "it is a folder"),
        (("@/a", "@/b"), "two files for one report"),
        (("@/a", "json=@/in/../a"), "twice"),
        (("jsn=@/a",), "no format is called 'jsn'"),
        (("json=",), "names no file"),
        (("json=@/in/jane_doe.safetensors",), "no place for a report"),
        (("@/in/other.safetensors",), "no place for a report"),
        (("@/in/link",), "no place for a report"),
        (("json=@/in/adapter_config.json",), "no place for a report"),
        (("json=@/in/Adapter_Config.JSON",), "no place for a report"),
        (("json=@/in/a.safetensors.index.json",), "no place for a report"),
    ],
)
def test_refused_before_the_work(
    given: tuple[str, ...], words: str, scan: Scan, lora: Path, tmp_path: Path
) -> None:
    (tmp_path / "in" / "link").symlink_to(lora)
    before = lora.read_bytes()
    options = [word for name in given for word in ("-o", name.replace("@", str(tmp_path)))]
    # The target is not there, which only the work would notice.
    code, out, err = scan(tmp_path / "gone", lora, "--depth", "metadata", *options)
    assert (code, out) == (2, "")
    assert words in err and "no such file" not in err
    assert lora.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize(
    "name",
    ["README.md", "config.json", "jane_doe.txt", "jane_doe.civitai.info", "preview.png", "more/notes.txt"],
)
@pytest.mark.parametrize("form", ["json", "text", "markdown", "html", "sarif"])
def test_no_report_replaces_what_lies_beside_a_lora(
    name: str, form: str, scan: Scan, lora: Path, tmp_path: Path
) -> None:
    theirs = lora.parent / name
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text('{"r": 4}, ## VERDICT: loraudit')
    (tmp_path / "link").symlink_to(theirs)
    targets = [lora.parent] if "/" in name else [lora, lora.parent]
    for target in targets:
        for path in (theirs, tmp_path / "link"):
            code, out, err = scan(target, *METADATA, "-o", f"{form}={path}")
            assert (code, out) == (2, "")
            assert "is no report" in err
    assert theirs.read_text() == '{"r": 4}, ## VERDICT: loraudit'
    # Elsewhere, and where there is nothing yet, it may be written. A side file that is no JSON is said.
    code = 4 if name.endswith(".info") else 0
    assert scan(lora, *METADATA, "-o", f"{form}={lora.parent / 'new'}")[0] == code


@pytest.mark.parametrize("form", ["json", "text", "markdown", "html", "sarif"])
def test_a_report_beside_a_lora_is_written_again(form: str, scan: Scan, lora: Path) -> None:
    path = lora.parent / "report"
    path.touch()
    for _ in range(3):
        assert scan(lora, *METADATA, "-o", f"{form}={path}")[0] == 0
    written = path.read_bytes()
    scan(lora, lora, *METADATA, "-o", f"{form}={path}")  # several reports, and then one again
    assert path.read_bytes() != written
    assert scan(lora, *METADATA, "-o", f"{form}={path}")[0] == 0
    assert path.read_bytes() == written


def test_no_report_replaces_a_reference_photo(scan: Scan, lora: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"a photo")
    code, _, err = scan(lora, "--reference", tmp_path / "photos", "-o", tmp_path / "photos" / "a.png")
    assert code == 2 and "is no report" in err
    assert (tmp_path / "photos" / "a.png").read_bytes() == b"a photo"


@pytest.mark.parametrize("form", ["text", "json"])
def test_inspect_replaces_its_own_output_alone(form: str, tmp_path: Path) -> None:
    lora = ROOT / "models/examples/example.safetensors"
    place = tmp_path / "here.safetensors"
    place.write_bytes(lora.read_bytes())
    for name in ("here.safetensors", "notes.txt", "adapter_config.json"):
        (tmp_path / "notes.txt").write_text("notes")
        done = loraudit("inspect", place, "-f", form, "-o", tmp_path / name)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 2
    assert place.read_bytes() == lora.read_bytes() and (tmp_path / "notes.txt").read_text() == "notes"
    for _ in range(2):
        assert loraudit("inspect", place, "-f", form, "-o", tmp_path / "out").returncode == 0


def test_a_full_disk_costs_that_report_alone(scan: Scan, lora: Path, tmp_path: Path) -> None:
    options = ("-o", "json=/dev/full", "-o", f"text={tmp_path / 'a'}")
    code, out, err = scan(lora, *METADATA, *options)
    assert code == 2
    assert "cannot write /dev/full" in err
    assert out and (tmp_path / "a").read_text() == out


def test_a_format_that_breaks_costs_no_other_output(
    scan: Scan, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_reports: object, **_how: object) -> str:
        raise LorauditError("a format is broken")

    monkeypatch.setitem(FORMATS, "json", fail)
    options = ("-o", f"json={tmp_path / 'a'}", "-o", f"text={tmp_path / 'b'}")
    code, out, err = scan(lora, *METADATA, *options)
    assert (code, err.splitlines()[0]) == (2, "loraudit: error: a format is broken")
    assert out and (tmp_path / "b").read_text() == out
    assert not (tmp_path / "a").exists()


def test_a_disk_that_fills_up_leaves_what_was_there(lora: Path, tmp_path: Path) -> None:
    """Files may have 1 kB here, which is no room for a report; it fails in the middle of writing."""
    old = tmp_path / "old"
    old.write_text("as it was")
    options = ("-o", f"json={old}", "-o", f"sarif={tmp_path / 'new'}")
    done = loraudit("scan", lora, *METADATA, *options, before="ulimit -f 1 &&")
    assert done.returncode == 2
    assert done.stderr.startswith(f"loraudit: error: cannot write {old}: ")
    assert "VERDICT" in done.stdout
    assert old.read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "old"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that not even root may write")
def test_a_folder_that_may_not_be_written(scan: Scan, lora: Path) -> None:
    code, out, err = scan(lora, *METADATA, "-o", "/proc/self/report")
    assert (code, out) == (2, "")
    assert "cannot write" in err


def test_a_reader_that_has_seen_enough(lora: Path) -> None:
    """The code is that of the scan: `head` closes the pipe before or after the report is in it."""
    for after in ("| head -1", "| true", "2>&1 | true"):
        done = loraudit("scan", lora, "--depth", "metadata", after=after)
        assert (done.returncode, done.stderr) == (1, ""), after
    first = loraudit("scan", lora, "--depth", "metadata", after="| head -1").stdout
    assert "VERDICT: HIGH" in first and first.count("\n") == 1
    # Nobody hears the error, but the code tells.
    assert loraudit("scan", "gone", after="2>&1 | true").returncode == 2


def test_a_closed_stdout_is_an_error_where_something_goes_there(lora: Path, tmp_path: Path) -> None:
    """Python's own code for it would be 1, which means findings."""
    for command in (("scan", lora, *METADATA), ("--help",), ("--version",), ("rules",)):
        done = loraudit(*command, after=">&-")
        assert done.returncode == 2, command
        assert done.stderr.splitlines() == [
            "loraudit: error: cannot write to standard output: it is closed",
            "  name a file with -o",
        ]
    done = loraudit("scan", lora, *METADATA, "-o", tmp_path / "a", after=">&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert "VERDICT: HIGH" in (tmp_path / "a").read_text()


def test_a_closed_stderr_or_stdin_changes_nothing(lora: Path, tmp_path: Path) -> None:
    for after in ("2>&-", "<&-", "2>&- <&-"):
        done = loraudit("scan", lora, *METADATA, after=after)
        assert (done.returncode, done.stderr) == (0, "")
        assert "VERDICT: HIGH" in done.stdout
        assert loraudit("scan", lora, "--depth", "metadata", after=after).returncode == 1
        assert loraudit("scan", tmp_path / "gone", after=after).returncode == 2
    assert loraudit("scan", lora, *METADATA, after=">&- 2>&- <&-").returncode == 2
    # A file that is opened must not take the place of a stream.
    done = loraudit("scan", lora, "gone", *METADATA, "-o", f"json={tmp_path / 'a'}", after=">&- 2>&-")
    assert done.returncode == 2
    assert json.loads((tmp_path / "a").read_text())["schema"] == "loraudit.reports/1"


def test_a_working_folder_that_was_deleted_is_told_in_one_line(lora: Path, tmp_path: Path) -> None:
    before = f"mkdir '{tmp_path}/x' && cd '{tmp_path}/x' && rmdir '{tmp_path}/x' && PYTHONPATH='{ROOT}'"
    for command in (("scan", lora, *METADATA), ("scan", "."), ("scan", "x.safetensors"), ("doctor",)):
        done = loraudit(*command, before=before, after="2>&1")
        assert done.returncode == 2, command
        assert "the working folder cannot be told" in done.stdout and "Traceback" not in done.stdout
    kept = before.replace(f"&& rmdir '{tmp_path}/x' ", "")
    assert loraudit("scan", lora, *METADATA, before=kept).returncode == 0


UNPRIVILEGED = (
    "setpriv --inh-caps=-all --bounding-set=-dac_override,-dac_read_search" if os.geteuid() == 0 else ""
)
"""Prefix that takes away what lets root read everything."""


@pytest.mark.skipif(bool(UNPRIVILEGED) and not shutil.which("setpriv"), reason="root reads everything")
def test_folders_that_may_not_be_read_cost_no_other_target_its_report(lora: Path, tmp_path: Path) -> None:
    for name, mode in (("locked", 0), ("listed", 0o444)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.safetensors", KOHYA)
        (tmp_path / name).chmod(mode)
    try:
        for target in ("locked", "listed", "locked/a.safetensors", "listed/a.safetensors"):
            for targets in ((tmp_path / target,), (tmp_path / target, lora)):
                done = loraudit("scan", *targets, *METADATA, "-f", "json", before=UNPRIVILEGED)
                assert done.returncode == 2 and "Traceback" not in done.stderr
                assert "Permission denied" in done.stderr and "internal error" not in done.stderr
                if len(targets) > 1:
                    first, second = json.loads(done.stdout)["reports"]
                    assert "Permission denied" in first["incomplete"][0]["why"]
                    assert second["verdict"]["level"] == "high"
        done = loraudit("scan", tmp_path, *METADATA, "-f", "json", before=UNPRIVILEGED)
        assert done.returncode == 2
        names = [report["target"]["name"] for report in json.loads(done.stdout)["reports"]]
        assert names == ["in/jane_doe.safetensors", "listed", "locked"]
    finally:
        for name in ("locked", "listed"):
            (tmp_path / name).chmod(0o700)
    done = loraudit("scan", tmp_path / "listed", *METADATA, before=UNPRIVILEGED)
    assert done.returncode == 0


def test_a_name_that_is_too_long_costs_no_other_target_its_report(scan: Scan, lora: Path) -> None:
    code, out, err = scan("x" * 300, lora, *METADATA, "-f", "json")
    assert (code, len(json.loads(out)["reports"])) == (2, 2)
    assert "File name too long" in err and "internal error" not in err


def test_a_full_disk_behind_stdout(lora: Path) -> None:
    done = loraudit("scan", lora, *METADATA, after="> /dev/full")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "loraudit: error: cannot write to standard output: No space left on device"
    )
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("command", ["--help", "--version", "rules"])
def test_a_full_disk_behind_other_commands(command: str) -> None:
    done = loraudit(command, after="> /dev/full")
    assert done.returncode == 2
    assert "internal error" not in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert loraudit(command).returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_poor_encoding(encoding: str, tmp_path: Path) -> None:
    names = {"10_Zoë 李小龍 person": {}}
    path = write(tmp_path / "Zoë李.safetensors", {"ss_dataset_dirs": json.dumps(names)})
    done = loraudit("scan", path, *METADATA, "--reveal", after="| cat -v", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u674e\u5c0f\u9f8d" in done.stdout.replace("\n", "").replace(" ", "")
    assert "---" in done.stdout and "\\u2500" not in done.stdout
    assert loraudit("scan", path, *METADATA, LC_ALL="C").returncode == 0


def test_paths_of_windows_in_the_file_stay_as_they_are(scan: Scan, tmp_path: Path) -> None:
    theirs = r"C:\Users\jane\new\tags"
    path = write(tmp_path / "x.safetensors", {"ss_sd_model_name": theirs})
    assert theirs in scan(path, *METADATA, "--reveal")[1]
    document = json.loads(scan(path, *METADATA, "--reveal", "-f", "json")[1])
    assert theirs in document["findings"][0]["quotes"]


def test_paths_are_told_from_the_working_folder_down(
    scan: Scan, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(target: Path | str) -> list[str | None]:
        document = json.loads(scan(target, *METADATA, "-f", "json")[1])
        return [report["target"]["path"] for report in document.get("reports", [document])]

    write(lora.with_name("b.safetensors"), {})
    assert told(lora) == [None]  # nobody is told where the working folder is
    monkeypatch.chdir(tmp_path)
    for target in (lora, "in/jane_doe.safetensors", "in/../in/jane_doe.safetensors"):
        assert told(target) == ["in/jane_doe.safetensors"]
    assert told("in") == ["in/b.safetensors", "in/jane_doe.safetensors"]
    monkeypatch.chdir(lora.parent)
    assert told("jane_doe.safetensors") == ["jane_doe.safetensors"]
    lora.with_name("b.safetensors").unlink()
    assert told(".") == ["jane_doe.safetensors"]
    monkeypatch.chdir("/")
    out = scan(lora, *METADATA, "-f", "sarif")[1]
    assert '"uri": "' + lora.relative_to("/").as_posix() in out
