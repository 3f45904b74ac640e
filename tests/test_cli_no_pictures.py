"""`scan --no-pictures`: no option makes it draw, and the report never reads like that of a scan that drew."""

import json
import shutil
from pathlib import Path
from typing import cast

import jsonschema
import pytest

from loraudit.attacks.encoder import Encoders
from loraudit.attacks.kit import Kit
from loraudit.attacks.search.inversion import InversionAttack
from loraudit.attacks.table import ATTACKS
from loraudit.base.load import load_base
from loraudit.base.model import Base
from loraudit.cards import models_dir
from loraudit.errors import Incomplete
from loraudit.lora import write_kohya
from loraudit.report.json_v1 import schema
from loraudit.scores import FaceScorer
from tests.audits import random_factors
from tests.headers import KOHYA
from tests.test_cli_scan_answers import told
from tests.test_cli_scan_asked import SHORT, Scan


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRA of the embedded base without a word in its header."""
    path = tmp_path_factory.mktemp("plain") / "x.safetensors"
    write_kohya(random_factors(load_base("tiny")), path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    shutil.copy(models_dir() / "examples" / "photos" / "05.png", folder)
    return folder


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count of the pictures that pass through the decoder."""
    counts: list[int] = []
    decode = Base.decode

    def counted(base: Base, latents):
        counts.append(len(latents))
        return decode(base, latents)

    monkeypatch.setattr(Base, "decode", counted)
    return counts


@pytest.mark.parametrize("more", [(), ("--budget", "quick"), ("--encoder", "probe-tiny")])
def test_photos_are_compared_and_nothing_is_drawn(
    scan: Scan, plain: Path, photos: Path, drawn: list[int], more: tuple[str, ...]
) -> None:
    code, out, _ = scan(plain, "--no-pictures", "--reference", photos, *more, *SHORT)
    report = told(out)
    jsonschema.validate(report, schema())
    assert (drawn, code) == ([], 0)
    assert [one["id"] for one in report["findings"]] == ["LA-IDENTITY-004"]
    settings = report["settings"]
    assert settings["pictures"] is False and settings["attacks"] == ["likelihood"]
    assert (settings["seeds"], settings["budget"]) == ([], None)


def test_the_search_that_aims_the_comparison_draws_none_where_no_encoder_ships(
    scan: Scan, plain: Path, photos: Path, drawn: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search inverts there, by pictures of its own."""

    def lacking(_encoders: Encoders, name: str) -> None:
        raise Incomplete(f"no {name} ships")

    monkeypatch.setattr(Encoders, "attack", lacking)
    report = told(scan(plain, "--no-pictures", "--reference", photos, *SHORT)[1])
    assert report["settings"]["attacks"] == ["likelihood"] and drawn == []
    kit = Kit(load_base("tiny"), Encoders(load_base("tiny"), "tiny"), face=cast(FaceScorer, object()))
    assert isinstance(ATTACKS[0].open(kit), InversionAttack)


def test_with_pictures_the_decoder_is_used(scan: Scan, plain: Path, drawn: list[int]) -> None:
    report = told(scan(plain, "--attack", "prompts", *SHORT)[1])
    assert sum(drawn) > 0
    assert "pictures" not in report["settings"] and report["settings"]["seeds"] == [0, 1]


def test_without_photos_no_base_is_loaded(
    scan: Scan, plain: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("loraudit.base.load.load_base", lambda *_: pytest.fail("a base"))
    code, out, _ = scan(plain, "--no-pictures")
    text = " ".join(out.replace("┃", " ").replace("│", " ").split())
    assert code == 0 and "NOTHING FOUND" in text
    assert "No picture was drawn" in text and "--depth attack" not in text
    assert "may be worse" in text
    write_kohya(random_factors(load_base("tiny")), tmp_path / "said.safetensors", KOHYA)
    assert scan(tmp_path / "said.safetensors", "--no-pictures")[0] == 1


def test_a_base_without_decoys_leaves_the_photos_unanswered(
    scan: Scan, plain: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one question that was asked has no answer: that is not clean."""
    monkeypatch.setattr("loraudit.audit.calibrated.read_decoys", lambda _folder: None)
    code, out, _ = scan(plain, "--no-pictures", "--reference", photos, *SHORT)
    report = told(out)
    assert (code, report["verdict"]["level"]) == (4, "inconclusive")
    assert [gap["what"] for gap in report["incomplete"]] == ["attack likelihood"]


@pytest.mark.parametrize("attack", [row.name for row in ATTACKS])
def test_an_attack_that_draws_is_refused(scan: Scan, plain: Path, attack: str, drawn: list[int]) -> None:
    code, _, err = scan(plain, "--no-pictures", "--attack", attack, *SHORT)
    assert (f"{attack} draws pictures" in err) is (attack != "likelihood")
    assert (code == 2) is (attack != "likelihood") and drawn == []


def test_pictures_cannot_be_saved(scan: Scan, plain: Path, tmp_path: Path) -> None:
    code, _, err = scan(plain, "--no-pictures", "--save-images", tmp_path / "out")
    assert code == 2 and "nothing to save" in err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("depth", ["metadata", "weights"])
def test_a_host_may_set_it_for_every_depth(
    scan: Scan, plain: Path, depth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORAUDIT_NO_PICTURES", "1")
    code, out, _ = scan(plain, "--depth", depth, "-f", "json")
    assert code == 0 and json.loads(out)["settings"]["pictures"] is False


def test_the_cost_counts_no_picture(scan: Scan, plain: Path, photos: Path) -> None:
    _, out, _ = scan(plain, "--no-pictures", "--dry-run", "--reference", photos)
    assert "likelihood (0 aims)" in out and "at most 0; 0 if" in out
