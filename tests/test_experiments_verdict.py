"""The statistics that verdicts are measured by."""

import numpy as np
import torch

from loraudit.experiments.verdict import agreement, auroc, conformal
from loraudit.experiments.verdict_faces import merged


def test_agreement_counts_pairs_and_a_missing_face_matches_none() -> None:
    one, other = torch.eye(4)[0], torch.eye(4)[1]
    nobody = torch.full((4,), torch.nan)
    vectors = torch.stack([torch.stack([one, one, one, other]), torch.stack([one, one, nobody, nobody])])
    assert agreement(vectors, 0.5).tolist() == [3 / 6, 1 / 6]


def test_the_area_is_that_of_mann_whitney() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 400), rng.normal(0, 1, 300)
    area = auroc(a, b)
    # For unit normals one apart: Phi(1 / sqrt 2).
    assert abs(area.value - 0.760) < 0.03 and area.low < 0.760 < area.high
    assert auroc(b, b).value == 0.5
    assert auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0])).value == 1.0


def test_conformal_p_values_of_controls_are_uniform_and_of_others_are_not() -> None:
    rng = np.random.default_rng(1)
    p = np.concatenate([conformal(rng.normal(size=50), rng.normal(size=99)) for _ in range(200)])
    for level in (0.01, 0.05, 0.1, 0.5):
        assert abs((p <= level).mean() - level) < 0.01
    shifted = conformal(rng.normal(2, 1, 500), rng.normal(size=99))
    assert (shifted <= 0.1).mean() > 0.5
    assert conformal(np.array([9.0]), np.zeros(99)) == [0.01]


def test_a_merged_lora_is_the_mean_of_its_parts() -> None:
    g = torch.Generator().manual_seed(0)
    up, down = torch.randn(17, 6, 2, generator=g), torch.randn(17, 2, 5, generator=g)
    both = merged({"site": (up, down)})["site"]
    assert both[0].shape == (2, 6, 16)
    torch.testing.assert_close((both[0] @ both[1])[1], (up[8:16] @ down[8:16]).mean(0))
