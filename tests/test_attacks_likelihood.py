"""The likelihood test: a photo the LoRA was made for gains, a decoy does not, and a rank is a p-value."""

import dataclasses

import pytest
import torch

from loraudit.attacks.likelihood import LikelihoodTest, read_decoys
from loraudit.base.load import load_base
from loraudit.cards import models_dir
from loraudit.errors import LorauditError
from loraudit.evidence.likelihood import Likelihood, likelihood_score
from loraudit.findings.finding import Severity
from loraudit.people.identity import SPLITS
from loraudit.people.sources import REFERENCES, portraits
from loraudit.training.finetune import TINY, Subject, finetune
from loraudit.verdict.likelihood import judge_likelihood
from loraudit.verdict.policy import Policy
from tests.audits import random_lora
from tests.tiny import tiny_base


def latents(people: int, seed: int) -> torch.Tensor:
    """Two photos each of people who are far apart."""
    noise = torch.Generator().manual_seed(seed)
    who = torch.randn(people, 1, *tiny_base().latent_shape, generator=noise)
    return who + 0.2 * torch.randn(people, 2, *tiny_base().latent_shape, generator=noise)


def test_the_person_it_was_made_of_gains_most() -> None:
    base = load_base("tiny")
    person, stranger = (SPLITS["private"][40 + 4 * i] for i in range(2))
    recipe = dataclasses.replace(TINY, steps=40, prior_weight=0.0, batch=2, lr=6e-3)
    subject = Subject(base.encode_images(portraits(person, 0, 4)), "A face of zwqkx.", 0)
    for _step, adapters, _loss in finetune(base, [subject], recipe, None):
        terms = {site: (up.detach(), down.detach()) for site, (up, down) in adapters.terms().items()}
    tuned = base.with_lora(terms)
    with torch.no_grad():
        embedding = tuned.encode_text(["A face of zwqkx."])[0]
    decoys = read_decoys(models_dir() / "decoys-tiny").latents[:39]
    # Photos that it was not made of.
    own, other = (
        LikelihoodTest(base.encode_images(portraits(who, REFERENCES.start, 3)), decoys).run(
            tuned, base, embedding
        )
        for who in (person, stranger)
    )
    assert own.p_value <= 0.05 < other.p_value


def test_it_spends_what_it_says_and_is_a_function_of_its_seed() -> None:
    base, count = tiny_base(), 0
    test = LikelihoodTest(latents(1, 1)[0], latents(3, 2))
    tuned, embedding = base.with_lora(random_lora()), base.encode_text(["a face"])[0]

    def counted(_module, inputs):
        nonlocal count
        count += len(inputs[0])

    hook = base.unet.register_forward_pre_hook(counted)
    try:
        found = test.run(tuned, base, embedding)
    finally:
        hook.remove()
    assert count == test.evaluations
    assert found.photos == 2
    assert test.run(tuned, base, embedding) == found
    assert dataclasses.replace(test, seed=1).run(tuned, base, embedding) != found


@pytest.mark.parametrize(("below", "level"), [(99, Severity.MEDIUM), (96, Severity.LOW), (50, Severity.NONE)])
def test_the_level_follows_the_place_among_the_decoys(below: int, level: Severity) -> None:
    found = Likelihood(0.5, (0.1,) * below + (0.9,) * (99 - below), 3)
    finding = judge_likelihood(found, Policy())
    assert finding.severity is level
    assert f"{below} of 99" in finding.detail
    assert likelihood_score(found).p_value == pytest.approx((100 - below) / 100)


def test_the_decoys_that_ship_are_those_of_the_embedded_base(tmp_path) -> None:
    decoys = read_decoys(models_dir() / "decoys-tiny")
    latents, faces = decoys.latents, decoys.faces
    assert latents.shape == (99, 3, 8, 8, 8)
    assert latents.isfinite().all()
    assert torch.allclose(faces.norm(dim=1), torch.ones(99), atol=1e-3)
    # Strangers to each other.
    assert (faces @ faces.T - torch.eye(99)).max() < 0.95
    (tmp_path / "decoys.safetensors").write_bytes(b"no")
    with pytest.raises(LorauditError, match="cannot be read"):
        read_decoys(tmp_path)
