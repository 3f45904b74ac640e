"""The story of an audit, told with pieces of ten lines."""

import dataclasses
from typing import ClassVar

import pytest
import torch

from loraudit.attacks.aim import Aim, Reconstruction
from loraudit.audit.audit import audit_lora
from loraudit.audit.setup import Setup
from loraudit.audit.target import target_of
from loraudit.base.model import Sampling
from loraudit.errors import Incomplete, LorauditError, NotScannable
from loraudit.evidence.calibration import Calibration, Conditions, Control
from loraudit.evidence.likelihood import Likelihood
from loraudit.findings.conditions import CalibrationUsed, EncoderUsed, Evaluations
from loraudit.findings.exhibits import Distribution
from loraudit.findings.exits import Exit, exit_code
from loraudit.findings.finding import Confidence, Severity
from loraudit.findings.report import Gap, Modules
from loraudit.lora import Unread
from loraudit.lora.directions import directions
from loraudit.report import FORMATS
from loraudit.scores.scorers import Scorers, look_at
from tests.audits import ColourFace, random_lora

RED = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 8, 8)


class FakeBase:
    name, fingerprint, dtype = "fake", None, torch.float32
    skipped: ClassVar = []

    def encode_text(self, prompts):
        return torch.zeros(len(prompts), 2, 2)

    def with_lora(self, _lora):
        return self

    def skipping(self, clip_skip):
        self.skipped.append(clip_skip)
        return self


class FakeAttack:
    def __init__(self, name="a", error=None):
        self.name, self.error = name, error

    def aims(self, lora, base):  # noqa: ARG002
        if self.error:
            raise self.error
        assert base.name == "fake"
        return [Aim(self.name, torch.zeros(2, 2), encoder=EncoderUsed("enc", "0" * 64))]


class FakePlan:
    """With the LoRA everybody is red; without it, everybody is somebody else."""

    seeds, budget = tuple(range(8)), "8 samples"

    sampling = Sampling(20, 3.0)
    sequential = True

    def __init__(self, tuned=None, scrambled=None):
        self.scrambled = scrambled
        self.controls = None
        self.tuned = RED.expand(8, -1, -1, -1) if tuned is None else tuned

    def device(self, base):
        return f"on {base.name}"

    def in_order(self, aims):
        return list(aims)

    def evaluations(self, pictures):
        return 10 * pictures

    def most(self, aims):
        return self.evaluations(3 * len(aims) * len(self.seeds))

    def reconstruct(self, lora, base, aims, on_step, asks, settled, enough, kept):  # noqa: ARG002
        on_step(0, 1, "attack a")
        base_pictures = torch.eye(8)[:, :3, None, None].expand(-1, -1, 8, 8) + torch.rand(8, 3, 1, 1)
        scrambled = base_pictures if self.scrambled is None else self.scrambled
        none = base_pictures[:0]
        for aim in aims:
            found = Reconstruction(aim, self.seeds, self.tuned, none, none)
            yield (
                dataclasses.replace(found, base=base_pictures, scrambled=scrambled) if asks(found) else found
            )
            if enough():
                return


def audit(attacks=(FakeAttack(),), plan=None, scorers=Scorers(ColourFace()), lora=None, **more):  # noqa: B008
    torch.manual_seed(0)
    heard = {name: more.pop(name) for name in ("keep", "on_step") if name in more}
    setup = Setup(FakeBase(), tuple(attacks), scorers, **more)
    return audit_lora(lora or random_lora(), setup, plan or FakePlan(), **heard)


def test_one_person_that_the_base_does_not_draw_is_found() -> None:
    report = audit()
    assert report.verdict.level is Severity.HIGH
    assert exit_code(report) == Exit.FOUND
    assert report.settings.attacks == ("a",)
    assert (report.settings.base, report.settings.seeds) == ("fake", tuple(range(8)))
    assert (report.settings.budget, report.settings.device) == ("8 samples", "on fake")
    assert report.settings.encoder == EncoderUsed("enc", "0" * 64)
    assert report.incomplete == ()
    assert {score.name for score in report.scores} >= {"faces", "consistency"}
    assert [module.site for module in report.update] == list(random_lora().factors)
    assert all(module.frobenius > 0 for module in report.update) and report.distributions == ()


def test_prompts_end_at_the_layer_that_the_file_says_it_was_trained_at() -> None:
    for metadata, layer in (({"ss_clip_skip": "2"}, 2), ({"ss_clip_skip": "None"}, None), ({}, None)):
        FakeBase.skipped.clear()
        audit(lora=random_lora(metadata))
        assert FakeBase.skipped == [layer]


def test_a_scrambled_copy_that_agrees_as_much_makes_the_scan_inconclusive() -> None:
    green = RED.roll(1, 0).expand(8, -1, -1, -1)
    report = audit(plan=FakePlan(scrambled=green))
    assert report.verdict.level is Severity.INCONCLUSIVE
    assert "scrambled copy" in report.verdict.reasons[0]
    assert exit_code(report) == Exit.INCOMPLETE
    for name in FORMATS:
        assert "The controls disagree" in FORMATS[name]([report])


def test_attacks_that_can_raise_nothing_are_skipped_and_not_missing() -> None:
    report = audit([FakeAttack("a"), FakeAttack("b")])
    assert (report.settings.attacks, report.settings.skipped) == (("a",), ("b",))
    assert report.settings.evaluations == Evaluations(240, 480)
    assert (report.verdict.level, report.incomplete) == (Severity.HIGH, ())
    other = audit([FakeAttack("a"), FakeAttack("b")], FakePlan(torch.rand(8, 3, 1, 1).expand(-1, -1, 8, 8)))
    assert other.settings.skipped == ()


def test_a_photo_that_comes_back_is_a_finding_of_its_own() -> None:
    face = ColourFace()
    found, other = (
        audit(scorers=Scorers(face, None, look_at([photo], face, None))) for photo in (RED, RED.roll(1, 0))
    )
    assert [one.id for one in found.findings][:2] == ["LA-COPY-001", "LA-IDENTITY-002"]
    assert found.findings[0].severity is Severity.CRITICAL
    shares = {score.name: score.value for score in found.scores}
    assert (shares["copies"], shares["copies.base"], shares["copies.scrambled"]) == (1, 0, 0)
    assert "LA-COPY-001" not in [one.id for one in other.findings]
    assert {score.name: score.value for score in other.scores}["copies"] == 0
    for name in FORMATS:
        assert "reference photo itself comes back" in " ".join(FORMATS[name]([found]).split())
    assert audit().scores == tuple(score for score in audit().scores if "copies" not in score.name)


@pytest.mark.parametrize("attack", ["a", "a:usual"])
@pytest.mark.parametrize(
    ("base", "weights", "p", "unused"),
    [
        ("fake", "", 0.01, None),
        ("called otherwise", "", 0.01, None),
        ("other", "b" * 64, None, "measured on another base, other"),
        ("fake", "b" * 64, None, "measured on other weights, fake"),
    ],
)
def test_calibration_is_used_where_it_fits(base, weights, p, unused, attack) -> None:
    conditions = Conditions(base, weights, 20, 3.0, {"a": 1}, {"a": "0" * 64}, "f" * 64)
    controls = (Control("noise", {attack: (0.0,)}),) * 99
    calibration = Calibration("calibration-fake", conditions, (8,), controls)
    report = audit(
        [FakeAttack(attack)], scorers=Scorers(ColourFace(), face_sha256="f" * 64), calibration=calibration
    )
    assert report.verdict.level is Severity.HIGH
    assert report.settings.calibration == CalibrationUsed("calibration-fake", 99, unused)
    assert report.findings[0].numbers.get("calibrated_p") == p
    assert report.distributions == (() if unused else (Distribution("agreement", 1.0, (0.0,) * 99),))
    assert report.findings[0].confidence is (Confidence.MEDIUM if unused else Confidence.HIGH)
    assert report.incomplete == ()


def test_one_face_of_a_file_that_is_several_loras_has_low_confidence() -> None:
    conditions = Conditions("fake", "", 20, 3.0, {"a": 1}, {"a": "0" * 64}, "f" * 64)
    controls = (Control("noise", {"a": (0.0,)}),) * 99
    here = directions(random_lora())
    for times, several in ((3.0, False), (0.5, True)):
        spreads = tuple(
            {kind: (rank, (1 + 0.01 * i) * max(1.0, times * found)) for kind, (rank, found) in here.items()}
            for i in range(9)
        )
        calibration = Calibration("c", conditions, (8,), controls, spreads=spreads)
        report = audit(scorers=Scorers(ColourFace(), face_sha256="f" * 64), calibration=calibration)
        assert report.verdict.level is Severity.HIGH
        (finding,) = (one for one in report.findings if one.id == "LA-IDENTITY-001")
        assert ("several LoRAs merged" in finding.title) is several
        assert (finding.confidence is Confidence.LOW) is several


def test_the_person_in_the_references_is_found() -> None:
    face = ColourFace()
    report = audit(scorers=Scorers(face, None, look_at([RED], face, None)))
    assert report.verdict.level is Severity.CRITICAL
    other = audit(scorers=Scorers(face, None, look_at([RED.flip(0)], face, None)))
    assert "LA-IDENTITY-002" in {f.id for f in other.findings if f.severity is Severity.NONE}


def test_no_face_is_clean_only_where_the_file_is_the_reason() -> None:
    """Where a copy that is as strong shows no face either, strength alone may be the reason."""
    nothing = torch.zeros(8, 3, 8, 8)
    report = audit(plan=FakePlan(nothing, scrambled=nothing))
    assert report.verdict.level is Severity.INCONCLUSIVE
    assert exit_code(report) == Exit.INCOMPLETE
    report = audit(plan=FakePlan(nothing))
    assert report.verdict.level is Severity.NONE
    assert "seems to hold something else" in report.verdict.reasons[0]


def test_broken_pictures_are_a_gap_and_no_answer() -> None:
    """Not a picture without a face: nothing is judged, nothing is kept, and the others go on."""
    kept: list[Reconstruction] = []
    broken = RED.expand(8, -1, -1, -1).clone()
    broken[3, 0, 0, 0] = torch.nan
    report = audit(plan=FakePlan(broken), keep=kept.append)
    assert kept == [] and report.scores == ()
    assert [gap.what for gap in report.incomplete] == ["attack a"]
    assert "its pictures are no numbers" in report.incomplete[0].why
    assert exit_code(report) == Exit.INCOMPLETE
    controls = audit(plan=FakePlan(scrambled=broken))
    assert [gap.what for gap in controls.incomplete] == ["attack a"]
    assert controls.verdict.level is Severity.INCONCLUSIVE


def test_an_attack_that_cannot_read_the_lora_is_a_gap_and_the_others_go_on() -> None:
    report = audit([FakeAttack("a", Incomplete("wrong rank", "train another")), FakeAttack("b")])
    assert report.settings.attacks == ("b",)
    assert report.incomplete == (Gap("attack a", "wrong rank; train another"),)
    assert report.verdict.level is Severity.HIGH
    report = audit([FakeAttack("a", Incomplete("wrong rank"))])
    assert exit_code(report) == Exit.INCOMPLETE


class FakeTest:
    name, evaluations = "photos", 3

    def run(self, tuned, base, embedding):  # noqa: ARG002
        return Likelihood(1.0, (0.0,) * 99, 2)


def test_a_comparison_of_photos_needs_no_attack_that_draws() -> None:
    """It takes the guide's embedding, or the class prompt's; nothing asked for is left out unsaid."""
    alone = audit([], tests=(FakeTest(),))
    assert (alone.settings.attacks, alone.settings.skipped, alone.incomplete) == (("photos",), (), ())
    assert [finding.id for finding in alone.findings] == ["LA-IDENTITY-004"]
    assert exit_code(alone) == Exit.CLEAN
    assert alone.settings.evaluations == Evaluations(3, 3)
    assert alone.settings.encoder is None
    guided = audit([], tests=(FakeTest(),), guide=FakeAttack("guide"))
    assert (guided.settings.attacks, guided.incomplete) == (("photos",), ())
    assert guided.settings.encoder == EncoderUsed("enc", "0" * 64)
    report = audit([FakeAttack("a", Incomplete("wrong rank"))], tests=(FakeTest(),))
    assert report.settings.attacks == ("photos",)
    assert [gap.what for gap in report.incomplete] == ["attack a"]
    assert exit_code(report) == Exit.INCOMPLETE
    # Where an attack settles the verdict, it is not needed.
    report = audit(tests=(FakeTest(),))
    assert report.incomplete == ()
    assert (report.settings.attacks, report.settings.skipped) == (("a",), ("photos",))


@pytest.mark.parametrize("error", [NotScannable("no"), LorauditError("no")])
def test_other_errors_pass(error) -> None:
    with pytest.raises(type(error)):
        audit([FakeAttack("a", error)])


def test_without_a_face_model_the_pictures_are_kept_and_nothing_is_clean() -> None:
    kept: list[Reconstruction] = []
    steps: list[tuple[int, int, str]] = []
    report = audit(
        scorers=None,
        gaps=(Gap("face model", "no network"),),
        keep=kept.append,
        on_step=lambda *step: steps.append(step),
    )
    assert [found.aim.attack for found in kept] == ["a"]
    assert steps == [(0, 0, "attack a: looking for what to draw"), (0, 1, "attack a")]
    assert (report.findings, report.scores) == ((), ())
    assert report.verdict.level is Severity.INCONCLUSIVE
    assert exit_code(report) == Exit.INCOMPLETE


def test_what_was_not_read_of_the_file_is_a_gap() -> None:
    lora = dataclasses.replace(random_lora(), unread=(Unread("lora.dora_scale", "it is DoRA"),))
    report = audit(lora=lora, plan=FakePlan(torch.rand(8, 3, 1, 1).expand(-1, -1, 8, 8)))
    assert report.incomplete == (
        Gap("part of the file", "1 key not read, such as lora.dora_scale: it is DoRA"),
    )
    assert exit_code(report) == Exit.INCOMPLETE
    assert report.target.modules == Modules(len(lora.factors), 1)


def test_the_target_is_the_file() -> None:
    lora = random_lora()
    target = target_of(lora)
    assert (target.name, target.sha256, target.base, target.rank) == (
        "x.safetensors",
        "0" * 64,
        "tiny",
        (2, 2),
    )
    assert audit().target == target
