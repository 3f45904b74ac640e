"""A scan always answers: every target gets its report, whatever is missing, damaged or broken."""

import errno
import fnmatch
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import torch
from PIL import Image

import loraudit.audit.auditor as auditor
from loraudit.base.load import load_base
from loraudit.cards import PIPELINE_FILES, base_card, base_names
from loraudit.cli.stored import fetched
from loraudit.errors import Incomplete, InternalError, LorauditError
from loraudit.findings.failures import reported
from loraudit.lora import write_kohya
from loraudit.report.json_v1 import schema
from tests.audits import random_factors
from tests.headers import KOHYA

QUICK = ("--samples", 2, "--steps", 2, "--device", "cpu", "--attack", "prompts")

Scan = Callable[..., tuple[int, str, str]]


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Scan:
    """As `conftest.scan`, which forbids the traceback that a bug ends in."""
    from loraudit.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loraudit", "scan", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def sd(tmp_path: Path, sd1_factors) -> Path:
    """A LoRA for a base that is not on this machine; its header holds a name."""
    write_kohya(sd1_factors, tmp_path / "sd15.safetensors", KOHYA)
    return tmp_path / "sd15.safetensors"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "ada.safetensors"
    write_kohya(random_factors(load_base("tiny")), path)
    return path


def told(out: str) -> dict:
    document = json.loads(out)
    jsonschema.validate(document, schema())
    return document


@pytest.mark.parametrize(
    ("options", "why"), [(("--offline",), "--offline is set"), ((), "HF_HUB_OFFLINE is set")]
)
def test_without_the_base_the_report_is_all_the_rest(
    options: tuple[str, ...], why: str, scan: Scan, sd: Path, sd1_factors
) -> None:
    """The environment of the tests forbids the network, so that nothing can be fetched."""
    code, out, err = scan(sd, *options, "-f", "json")
    report = told(out)
    assert (code, "error" in err) == (1, False)
    assert "LA-NAME-001" in {finding["id"] for finding in report["findings"]}
    target = report["target"]
    assert (target["family"], target["base"], target["rank"]) == ("SD 1.x", "sd15", [2, 3])
    assert (target["modules"]["read"], target["modules"]["unread"]) == (len(sd1_factors), 0)
    (gap,) = report["incomplete"]
    assert gap["what"] == "the attack"
    assert f"the base 'sd15' is not on this machine, and {why}" in gap["why"]
    assert base_card("sd15").fetch_command in gap["why"] and "checkpoint with --base" in gap["why"]
    words = " ".join(scan(sd, *options)[1].split())
    assert "SD 1.x LoRA, kohya layout, rank 2 to 3, 8 of 8 modules read, fits sd15" in words
    assert "Not looked at the attack: the base 'sd15'" in words
    assert "hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --revision " in words
    assert "attacked nothing" in words


def test_a_base_that_does_not_fit_costs_the_attack_alone(
    scan: Scan, sd: Path, tiny: Path, sd1_factors
) -> None:
    """What the file says and what its weights are is told as where the base is missing."""
    code, out, err = scan(sd, tiny, *QUICK, "--base", "tiny", "-f", "json")
    misfit, fitting = told(out)["reports"]
    assert (code, "error" in err) == (1, False)
    assert (misfit["target"]["base"], misfit["target"]["rank"]) == ("sd15", [2, 3])
    assert misfit["target"]["modules"]["read"] == len(misfit["update"]) == len(sd1_factors)
    assert "LA-NAME-001" in {finding["id"] for finding in misfit["findings"]}
    (gap,) = misfit["incomplete"]
    assert gap["what"] == "the attack" and "does not fit this base; name the right base" in gap["why"]
    assert (fitting["incomplete"], fitting["target"]["base"]) == ([], "tiny"), "the control"
    # Nothing to find and nothing attacked is incomplete.
    assert scan(sd, *QUICK, "--base", "tiny", "--ignore", "LA-NAME", "--fail-on", "critical")[0] == 4


def test_a_file_that_says_nothing_is_incomplete_without_its_base(
    scan: Scan, tmp_path: Path, sd1_factors
) -> None:
    write_kohya(sd1_factors, tmp_path / "x.safetensors")
    code, out, _ = scan(tmp_path / "x.safetensors", "--offline")
    assert code == 4
    assert "VERDICT: INCONCLUSIVE" in out and "sd15" in out


def test_the_command_fetches_what_a_scan_reads_and_nothing_large_beside_it() -> None:
    """`hf download` matches its patterns as fnmatch does."""
    needed = {file for stored in fetched() if stored.name.startswith("base ") for file in stored.files}
    others = ("unet/diffusion_pytorch_model.bin", "sd-v1-4.ckpt", "safety_checker/pytorch_model.bin")
    for files, wanted in ((needed, True), (others, False)):
        for file in files:
            assert any(fnmatch.fnmatch(file, pattern) for pattern in PIPELINE_FILES) is wanted, file
    for name in base_names():
        command = base_card(name).fetch_command
        assert bool(command) is (name != "tiny")
        assert command.count("--include") == (len(PIPELINE_FILES) if command else 0)


def test_the_network_is_asked_once_for_a_base(
    scan: Scan, sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, real = [], auditor.set_up

    def counted(request, name, *rest):
        asked.append(name)
        return real(request, name, *rest)

    monkeypatch.setattr(auditor, "set_up", counted)
    os.link(sd, tmp_path / "again.safetensors")
    code, out, _ = scan(tmp_path, "-f", "json")
    assert (code, asked) == (1, ["sd15"])
    assert [len(report["incomplete"]) for report in told(out)["reports"]] == [1, 1]


def test_no_target_costs_another_its_report(
    scan: Scan, sd: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing base, a missing file, a bug, an error of the attack, and a sound LoRA in one scan."""
    real = auditor.audit_lora

    def fail(lora, *rest):
        if lora.file.name == "bug.safetensors":
            raise KeyError("\x1b[2Jzqx\n::error::")
        if lora.file.name == "bad.safetensors":
            raise LorauditError("an encoder is damaged", "mend it")
        return real(lora, *rest)

    monkeypatch.setattr(auditor, "audit_lora", fail)
    write_kohya(random_factors(load_base("tiny")), tmp_path / "bug.safetensors", KOHYA)
    os.link(tiny, tmp_path / "bad.safetensors")
    names = ("bug", "gone", "sd15", "bad")
    targets = [sd.with_name(f"{name}.safetensors") for name in names] + [tiny]
    files = ("-o", f"json={tmp_path / 'o.json'}", "-o", f"sarif={tmp_path / 'o.sarif'}")
    code, out, err = scan(*targets, *QUICK, "--save-images", tmp_path / "out", *files)
    assert code == 2
    bug, gone, base, bad, sound = told((tmp_path / "o.json").read_text())["reports"]
    assert "LA-NAME-001" in {finding["id"] for finding in bug["findings"]}
    assert (bug["target"]["family"], bug["target"]["rank"]) == ("tiny", [2, 2])
    assert bug["incomplete"][0]["why"].startswith("internal error (KeyError); ")
    assert (gone["incomplete"][0]["what"], base["incomplete"][0]["what"]) == ("target", "the attack")
    assert bad["incomplete"] == [{"what": "the attack", "why": "an encoder is damaged; mend it"}]
    assert (sound["incomplete"], sound["target"]["base"]) == ([], "tiny")
    assert len(sound["scores"]) > 0
    assert (tmp_path / "out" / "05" / "sheet.png").is_file()
    assert (tmp_path / "o.sarif").is_file() and out.count("VERDICT") == 5
    assert "internal error (KeyError)" in err and err.count("loraudit: error: ") == 3
    lines = err.splitlines()
    assert any(line.startswith("Traceback") for line in err.splitlines())
    assert all(line.isprintable() and not line.startswith("::") for line in lines)
    assert "zqx" not in out + (tmp_path / "o.json").read_text()
    # The worst of the codes is that of the bug; without it and the errors a finding is.
    assert scan(targets[2], tiny, *QUICK)[0] == 1
    assert scan(tiny, *QUICK)[0] == 4


def test_what_cannot_be_read_at_all_is_told_as_well(
    scan: Scan, sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_words):
        raise MemoryError

    monkeypatch.setattr("loraudit.audit.scan.read_weights", fail)
    code, out, _ = scan(sd, "-f", "json", "--fail-on", "never")
    report = told(out)
    assert (code, report["incomplete"][0]["what"]) == (4, "the weights")
    assert report["incomplete"][0]["why"].startswith("not enough memory; ")
    assert report["findings"]
    monkeypatch.setattr("loraudit.audit.scan.read_words", fail)
    code, out, _ = scan(sd, tmp_path / "gone", "-f", "json")
    assert (code, len(told(out)["reports"])) == (2, 2)


def test_a_damaged_base_folder_and_photos_without_a_face(scan: Scan, sd: Path, tiny: Path, tmp_path) -> None:
    """The code is that of an error, and the report holds all that needs neither."""
    (tmp_path / "base" / "unet").mkdir(parents=True)
    cut = b"\x10\x00\x00\x00\x00\x00\x00\x00{"
    (tmp_path / "base" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(cut)
    for config in (b"", b"[]", b"{", b'{"block_out_channels": "x"}', b"\xff", b"null"):
        (tmp_path / "base" / "unet" / "config.json").write_bytes(config)
        code, out, err = scan(sd, "--base", tmp_path / "base", "-f", "json")
        assert code == 2 and "Traceback" not in err, config
        assert "cannot load the base" in err
        report = told(out)
        assert report["findings"] and report["target"]["rank"] == [2, 3]
        assert "not a complete Stable Diffusion 1.x pipeline" in report["incomplete"][0]["why"]
    (tmp_path / "nobody").mkdir()
    Image.new("RGB", (64, 64), "navy").save(tmp_path / "nobody" / "a.png")
    code, out, err = scan(tiny, *QUICK, "--reference", tmp_path / "nobody", "-f", "json")
    assert code == 2 and "no face in any of the 1 reference photos" in err
    assert told(out)["incomplete"][0]["what"] == "the attack"


def test_a_request_that_no_target_can_meet_scans_nothing(scan: Scan, sd: Path, tiny: Path, tmp_path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    for options in (
        ("--reference", tmp_path / "gone"),
        ("--base", "sd99"),
        ("--encoder", "no-such"),
        ("--save-images", tmp_path / "full"),
        *([] if torch.cuda.is_available() else [("--device", "cuda")]),
    ):
        code, out, err = scan(sd, tiny, *options)
        assert (code, out) == (2, ""), options
        assert err.splitlines()[-2].startswith("loraudit: error: ") and "Traceback" not in err


def test_a_target_whose_gate_breaks_costs_no_other_its_report(
    scan: Scan, sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loraudit.gate import Gate

    real = Gate.mark

    def fail(gate, report, files):
        if report.target.name == "again.safetensors":
            raise PermissionError(errno.EACCES, "Permission denied", "/home/zqx/again.safetensors")
        return real(gate, report, files)

    monkeypatch.setattr(Gate, "mark", fail)
    os.link(sd, tmp_path / "again.safetensors")
    (tmp_path / "allow").write_text("")
    words = ("--depth", "metadata", "-f", "json", "--allow", tmp_path / "allow")
    code, out, err = scan(sd, tmp_path / "again.safetensors", *words)
    first, second = told(out)["reports"]
    assert code == 2 and "cannot read again.safetensors: Permission denied" in err
    assert (first["incomplete"], len(second["incomplete"])) == ([], 1)
    assert first["findings"] and len(second["findings"]) == len(first["findings"])
    assert scan(sd, *words)[0] == 1


def test_errors_as_reports_tell_them() -> None:
    mine = LorauditError("mine")
    assert reported(mine) is mine
    assert isinstance(reported(MemoryError()), Incomplete)
    assert isinstance(reported(ImportError("libtorch.so: gone", name="torch._C")), Incomplete)
    assert "torch cannot be loaded" in str(reported(ImportError("x", name="torch._C")))
    refused = reported(PermissionError(errno.EACCES, "Permission denied", "/home/zqx/unet"))
    assert (str(refused), refused.exit_code) == ("cannot read unet: Permission denied", 2)
    assert "no space left" in str(reported(OSError(errno.ENOSPC, "x")))
    for bug in (RuntimeError("zqx"), ImportError("zqx", name="loraudit.gone"), OSError(errno.EBADF, "zqx")):
        found = reported(bug)
        assert isinstance(found, InternalError) and found.__cause__ is bug
        assert "zqx" not in f"{found}{found.hint}"
