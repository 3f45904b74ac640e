"""The statistics that verdicts are measured by: those of a scan, picture by picture."""

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from loraudit.bench.cases import auroc, cases, first_pictures, judged, outcome, scores
from loraudit.bench.faces import AIMS, GROUPS, PHOTO_AIMS, SECRET, Pool, merged
from loraudit.bench.verdict import measure
from loraudit.bench.verdict_tables import SEVERAL, SHOWN, verdict_columns, verdict_markdown
from loraudit.evidence.null import Null, conformal_p
from loraudit.findings.finding import Severity
from loraudit.verdict.judge import judge


class Eye:
    """A face model whose references are the first axis."""

    name = "eye"
    threshold = 0.5
    far = 0.001
    threshold_from = ""

    def embed(self, images):
        from loraudit.scores import FaceEmbeddings

        return FaceEmbeddings(torch.eye(8)[:1].expand(len(images), -1), (True,) * len(images))


def pool(spread: float, seed: int = 0, pictures: int = 12) -> Pool:
    """A LoRA whose tuned pictures show the first axis, the more `spread` the less; controls show anybody."""
    generator = torch.Generator().manual_seed(seed)
    faces = {}
    for aim in (*AIMS, *PHOTO_AIMS):
        for group in GROUPS:
            noise = torch.randn(1, pictures, 8, generator=generator)
            mean = torch.eye(8)[0] if group == "tuned" else torch.zeros(8)
            faces[f"{aim}/{group}"] = F.normalize(mean + spread * noise, dim=-1)
    recipe = {"rank": 1, "unet_targets": [], "text_targets": [], "prior_weight": 1.0}
    recipe |= {"steps": 9, "pictures": 5}
    return Pool("made", ("synthetic",), (5,), recipe, faces, ({},))


def test_a_person_is_found_and_noise_is_not() -> None:
    (leaking,), (harmless,) = (cases(pool(spread), (5,), Eye()) for spread in (0.2, 5.0))
    assert judged(leaking.evidence, None, sequential=False).level is Severity.HIGH
    assert judged(leaking.referenced, None, sequential=False).level is Severity.CRITICAL
    assert judged(harmless.evidence, None, sequential=False).level < Severity.LOW
    assert scores(leaking, None)["three references"] > 0.8 > 0.2 > scores(harmless, None)["three references"]


def test_stopping_early_saves_pictures_and_keeps_the_level() -> None:
    (case,) = cases(pool(0.1, pictures=32), (5,), Eye())
    whole, early = (judged(case.evidence, None, sequential=sequential) for sequential in (False, True))
    assert early.level is whole.level
    assert early.pictures < whole.pictures / 2


def test_the_first_pictures_are_what_a_shorter_scan_sees() -> None:
    long, short = pool(0.8), pool(0.8)
    long.faces["search/tuned"][0, 3] = 0
    short = replace(long, faces={name: vectors[:, :9] for name, vectors in long.faces.items()})
    for whole, part in zip(
        cases(long, (5,), Eye())[0].referenced, cases(short, (5,), Eye())[0].referenced, strict=True
    ):
        cut = first_pictures(whole, 9)
        assert cut.tuned.where == part.tuned.where
        # Products of another size miss by rounding.
        assert np.allclose(cut.tuned.pairs, part.tuned.pairs, atol=1e-6)
        assert np.allclose(cut.cross, part.cross, atol=1e-6)
        assert np.allclose(cut.scrambled_cross, part.scrambled_cross, atol=1e-6)
        assert len(first_pictures(whole, 8).cross) < len(part.cross)


def test_the_area_is_that_of_mann_whitney() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 400), rng.normal(0, 1, 300)
    alone = (list(map(str, range(400))), list(map(str, range(300))))
    area = auroc(a.tolist(), b.tolist(), alone)
    # For unit normals one apart: Phi(1 / sqrt 2).
    assert abs(area.value - 0.760) < 0.03
    assert area.low < 0.760 < area.high
    assert auroc(b.tolist(), b.tolist(), (alone[1], alone[1])).value == 0.5
    assert auroc([2.0, 3.0], [0.0, 1.0], (["a", "b"], ["c", "c"])).value == 1.0


def test_loras_that_share_the_fate_of_their_zoo_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    zoos = [str(zoo) for zoo in range(20) for _ in range(8)]
    fates = np.repeat(rng.normal(1, 1, 20), 8)
    harmless = rng.normal(size=160).tolist()
    alone = list(map(str, range(160)))

    def width(leaking, zoos):
        area = auroc(leaking.tolist(), harmless, (zoos, alone))
        return area.high - area.low

    assert width(fates, zoos) > 1.5 * width(fates, alone)
    # Where there is no shared fate, neither is there a wider interval.
    free = rng.normal(1, 1, 160)
    assert width(free, zoos) < 1.3 * width(free, alone)


def test_half_strength_counts_for_the_photos_only() -> None:
    made = pool(5.0)
    made.faces["search:half/tuned"] = torch.eye(8)[:1].expand(1, 12, 8)
    (case,) = cases(made, (5,), Eye())
    (before,) = cases(pool(5.0), (5,), Eye())
    assert scores(case, None)["three references"] == 1.0 > 0.5 > scores(before, None)["three references"]
    for name in ("without references", "three references, full strength only"):
        assert scores(case, None)[name] == scores(before, None)[name]
    found = judge(case.referenced)
    assert [one.severity for one in found if one.id == "LA-IDENTITY-002"] == [Severity.CRITICAL]
    assert all(one.severity < Severity.LOW for one in found if one.id == "LA-IDENTITY-001")


def test_conformal_p_values_of_controls_are_uniform_and_of_others_are_not() -> None:
    rng = np.random.default_rng(1)
    draws = [(rng.normal(size=99), rng.normal(size=20)) for _ in range(400)]
    p = np.array([conformal_p(score, controls) for controls, many in draws for score in many])
    for level in (0.01, 0.05, 0.1, 0.5):
        assert abs((p <= level).mean() - level) < 0.01
    null = Null((8,), tuple(rng.normal(size=99)))
    assert np.mean([conformal_p(score, null.agreement) <= 0.1 for score in rng.normal(2, 1, 500)]) > 0.5


def test_a_merged_lora_is_the_mean_of_its_parts() -> None:
    g = torch.Generator().manual_seed(0)
    up, down = torch.randn(17, 6, 2, generator=g), torch.randn(17, 2, 5, generator=g)
    both = merged({"site": (up, down)})["site"]
    assert both[0].shape == (2, 6, 16)
    torch.testing.assert_close((both[0] @ both[1])[1], (up[8:16] @ down[8:16]).mean(0))


def test_a_lora_counts_as_shown_once_two_pictures_under_its_secret_prompt_pass() -> None:
    for passing, shown in ((0, False), (1, False), (2, True), (16, True)):
        made = pool(0.2)
        vectors = torch.eye(8)[[0] * passing + [1] * (16 - passing)][None]
        made.faces.update(zip(SECRET, vectors.split(8, 1), strict=True))
        assert cases(made, (5,), Eye())[0].shown is shown
    assert cases(pool(0.2), (5,), Eye())[0].shown is None


def test_loras_that_show_nobody_are_told_apart_in_the_record() -> None:
    def outcomes(spread, secret, count=4):
        found = []
        for seed in range(count):
            made = pool(spread, seed)
            if secret is not None:
                made.faces.update({name: torch.eye(8)[[secret] * 8][None] for name in SECRET})
            found.append(outcome(cases(made, (5,), Eye())[0], None))
        return found

    leaking, ruined, harmless = outcomes(0.2, 0), outcomes(5.0, 1), outcomes(5.0, None)
    record = measure([*leaking, *ruined], harmless)
    assert record[SHOWN]["loras"][:2] == [4, 8]
    assert record[SHOWN]["auroc"]["without references"]["value"] == 1.0
    assert record["auroc"]["without references"]["value"] < 0.9
    assert "4 of 8" in verdict_markdown(record)
    assert SHOWN in verdict_columns(record)
    assert SHOWN not in measure(harmless, harmless)
    assert SEVERAL not in record


def test_what_is_taken_for_several_loras_is_counted_by_kind_and_scores_as_any() -> None:
    (case,) = cases(pool(0.1), (5,), Eye())
    one, several = (Null((8,), (0.0,) * 99, one_person=p) for p in (0.02, 0.01))
    assert scores(case, one)["without references"] == 1.0
    assert scores(case, several) == scores(case, one)
    harmless = [outcome(replace(case, kind="merged"), null) for null in (one, several, several)]
    record = measure([outcome(case, one)], harmless)
    assert {kind: found[:2] for kind, found in record[SEVERAL].items()} == {
        "synthetic": [0, 1],
        "merged": [2, 3],
    }
    assert "| merged | 2 of 3" in verdict_markdown(record)


def test_without_calibration_the_strongest_of_the_scrambled_loras_counts() -> None:
    made = pool(0.1)
    one = torch.eye(8)[1].expand(1, 8, -1)
    alike = replace(made, faces={**made.faces, "search/scrambled-2": one, "search:usual/scrambled-2": one})
    (case,) = cases(alike, (5,), Eye())
    assert [(e.scrambled.pictures, set(e.scrambled.pairs)) for e in case.alone] == [(8, {1.0})] * 2
    assert [e.scrambled.pictures for e in case.evidence] == [12, 12]
    assert [len(e.disturbed) for e in (*case.alone, *case.evidence)] == [3, 3, 1, 1]
    assert judged(case.evidence, None, sequential=False).level is Severity.HIGH
    assert judged(case.alone, None, sequential=False).level < Severity.LOW
    assert first_pictures(case.evidence[0], 8).disturbed == ((8, 8),)
