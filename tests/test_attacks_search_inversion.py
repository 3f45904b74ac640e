"""The inversion takes the embedding whose quick pictures agree most, and says what it spent."""

import dataclasses
import itertools

import pytest
import torch

from loraudit.attacks.search.gap import Climb, gap, noised, renoised
from loraudit.attacks.search.inversion import Effort, InversionAttack, _agreement
from loraudit.attacks.search.names import FRAMES, names_in
from loraudit.attacks.search.rows import Ascent
from loraudit.attacks.search.search import SearchAttack
from loraudit.base.load import load_base
from loraudit.base.model import CLASS_PROMPT, Sampling
from loraudit.cards import models_dir
from loraudit.lora import load_lora
from loraudit.scores.face import load_tiny_face
from tests.audits import ColourFace, random_lora
from tests.tiny import tiny_base

SEARCH = SearchAttack(ascent=Ascent(steps=4, restarts=1), climb=Climb(restarts=1, steps=2, noises=2))
SMALL = Effort(names=12, drawn=(2, 2), drawing_steps=2, steps=1, noises=3, looks=4, look_steps=2)
ATTACK = InversionAttack(ColourFace(), SEARCH, SMALL)


def without_cross_attention():
    lora = random_lora()
    kept = {site: pair for site, pair in lora.factors.items() if ".attn2." not in site}
    return dataclasses.replace(lora, factors=kept)


@pytest.mark.parametrize("make", [random_lora, without_cross_attention])
def test_it_counts_what_it_spends(make) -> None:
    base, lora, count = tiny_base(), make(), 0

    def counted(_module, inputs):
        nonlocal count
        count += len(inputs[0])

    hook = base.unet.register_forward_pre_hook(counted)
    try:
        strong, usual = ATTACK.aims(lora, base)
    finally:
        hook.remove()
    assert (strong.evaluations, usual.evaluations) == (count, 0)
    assert torch.equal(strong.embedding, usual.embedding) and strong.embedding.isfinite().all()
    assert [(aim.attack, aim.against_base) for aim in (strong, usual)] == [
        ("search", True),
        ("search:usual", False),
    ]


def test_it_is_a_function_of_the_lora_and_leaves_the_base_alone() -> None:
    base, lora = tiny_base(), random_lora()
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    one, again = (ATTACK.aims(lora, base)[0].embedding for _ in range(2))
    assert torch.equal(one, again)
    other = dataclasses.replace(ATTACK, effort=dataclasses.replace(SMALL, seed=3)).aims(lora, base)[0]
    assert not torch.equal(one, other.embedding)
    assert all(torch.equal(before[name], value) for name, value in base.unet.state_dict().items())


class OneGood(ColourFace):
    """A face model to which only the pictures of one embedding look alike, from call to call.

    That is the one at `climb` among the climbs, or the candidate of the rows where `climb` is None.
    """

    def __init__(self, climb: int | None) -> None:
        # First all climbs, then the finalists, the leading one first, then the candidate of the rows.
        self.alike = iter([climb or 0, None if climb is None else 0, 0 if climb is None else None])

    def embed(self, images):
        seen = super().embed(images)
        vectors = torch.eye(1 + len(images))[1:]
        place, looks = next(self.alike), SMALL.looks if len(images) == SMALL.looks else SMALL.looks // 2
        if place is not None:
            vectors[place * looks : (place + 1) * looks] = torch.eye(1 + len(images))[0]
        wide = torch.zeros(len(images), 64)
        wide[:, : vectors.shape[1]] = vectors
        return dataclasses.replace(seen, vectors=wide, found=(True,) * len(images))


def test_the_embedding_whose_pictures_agree_is_taken() -> None:
    base, lora = tiny_base(), random_lora()
    tuned = base.with_lora(lora)
    climbs = range(len(FRAMES) * len(SMALL.radii))
    faces = [OneGood(None), *(OneGood(climb) for climb in climbs)]
    found = [dataclasses.replace(ATTACK, face=face).answer(tuned, base)[0] for face in faces]
    torch.testing.assert_close(found[0], SEARCH.best(tuned, base).embeddings[0])
    for one, other in itertools.combinations(found, 2):
        assert (one - other).abs().max() > 1e-3


def test_the_words_of_the_search_are_quoted_only_where_its_candidate_is_the_answer() -> None:
    class Words(SearchAttack):
        def best(self, tuned, base, start=None):
            return dataclasses.replace(super().best(tuned, base, start), texts=("ada",))

    attack = dataclasses.replace(ATTACK, search=Words(SEARCH.encoder, SEARCH.ascent, SEARCH.climb, True))
    quotes = [
        [aim.quotes for aim in dataclasses.replace(attack, face=face).aims(random_lora(), tiny_base())]
        for face in (OneGood(None), OneGood(0))
    ]
    assert quotes == [[("ada",)] * 3, [()] * 3]


def test_pictures_without_a_face_agree_with_none() -> None:
    class Blind(ColourFace):
        def embed(self, images):
            return dataclasses.replace(super().embed(images), found=(False,) * len(images))

    base = tiny_base()
    embeddings = base.encode_text(["a", "b"])
    faces = dataclasses.replace(ATTACK, face=Blind())._faces(base, base, embeddings, slice(None))
    assert faces.shape[:2] == (2, SMALL.looks)
    assert _agreement(faces).tolist() == [0, 0]


def test_the_climb_stays_in_its_balls_and_raises_the_gap() -> None:
    base = load_base("tiny")
    tuned = base.with_lora(load_lora(str(models_dir() / "examples/example.safetensors")))
    names = names_in(tuned, FRAMES[0], 90)
    attack = InversionAttack(ColourFace(), SEARCH, Effort(radii=(3.0, 5.0), steps=1, noises=8))
    latents = torch.randn(4, *base.latent_shape, generator=torch.Generator().manual_seed(0))
    kept = attack._climbed(tuned, base, names, latents)
    flat = names.directions.flatten(1)
    for radius, embedding in zip((3.0, 5.0), kept, strict=True):
        places = flat @ (embedding - names.mean).flatten() / flat.square().sum(1).clamp(min=1e-9)
        assert places.norm() <= radius * 1.01
    with torch.no_grad():
        x, t = renoised(base, latents, 16, torch.Generator().manual_seed(5))
        heights = gap(tuned, base, torch.cat([names.mean[None], kept]), x, t)
    assert heights[0] < heights[1] < heights[2]


def test_noise_is_put_on_every_latent_in_turn() -> None:
    base = tiny_base()
    latents = torch.stack([torch.full(base.latent_shape, float(value)) for value in range(4)])
    x, t = renoised(base, latents, 8, torch.Generator().manual_seed(0))
    assert x.shape == (8, *base.latent_shape) and 250 <= t.min() < t.max() < 750
    pure, _ = noised(base, 8, torch.Generator().manual_seed(0))
    assert (x - pure).abs().mean() > 0.1


def test_it_shows_the_person_of_the_example_and_the_class_prompt_shows_nobody() -> None:
    """The budget is a third of the usual one, so that the test takes seconds."""
    base, face = load_base("tiny"), load_tiny_face(models_dir() / "tiny-face")
    lora = load_lora(str(models_dir() / "examples/example.safetensors"))
    effort = Effort(names=150, drawn=(2, 3), drawing_steps=6, radii=(4.0,), noises=10, looks=4)
    (aim, _) = InversionAttack(face, SearchAttack(ascent=Ascent(steps=30, restarts=2)), effort).aims(
        lora, base
    )
    tuned = base.with_lora(lora)

    def agreement(embedding: torch.Tensor) -> float:
        vectors = face.embed(tuned.sample(embedding[None], range(6), Sampling(8, 3.0))).vectors
        one, other = torch.triu_indices(6, 6, offset=1)
        return float((vectors[one] * vectors[other]).sum(1).mean())

    with torch.no_grad():
        nobody = agreement(base.encode_text([CLASS_PROMPT])[0])
    assert agreement(aim.embedding) > nobody + 0.2
