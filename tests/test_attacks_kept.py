"""Pictures of the untouched model that are kept for other aims and files."""

import dataclasses

import pytest
import torch

from loraudit.attacks.guidance import GuidanceAttack
from loraudit.attacks.kept import KeptPictures, key_of
from loraudit.attacks.prompts import PromptsAttack
from loraudit.audit import audit as story
from loraudit.audit.auditor import Auditor
from loraudit.audit.request import Request
from loraudit.base.load import load_base
from loraudit.base.model import Base, Sampling
from tests.audits import random_factors, random_lora

SAMPLING = Sampling(2, 3.0)
PICTURE = torch.zeros(3, 4, 4)


class Brush:
    """Draws pictures that show their seed, and remembers what it was asked for."""

    def __init__(self):
        self.drawn: list[tuple[int, ...]] = []

    def __call__(self, seeds):
        self.drawn.append(seeds)
        return torch.stack([PICTURE + seed for seed in seeds])


def test_a_picture_is_drawn_once_for_an_embedding_and_a_seed() -> None:
    kept, brush = KeptPictures(), Brush()
    assert [int(one[0, 0, 0]) for one in kept.of(b"a", (3, 4), brush)] == [3, 4]
    assert [int(one[0, 0, 0]) for one in kept.of(b"a", (4, 5, 3), brush)] == [4, 5, 3]
    assert kept.of(b"a", (), brush) == ()
    kept.of(b"b", (3,), brush)
    assert brush.drawn == [(3, 4), (5,), (3,)]


def test_memory_is_bounded_and_what_is_asked_for_again_stays() -> None:
    kept, brush = KeptPictures(3 * PICTURE.nbytes), Brush()
    kept.of(b"a", (0, 1), brush)
    kept.of(b"b", (0,), brush)
    kept.of(b"a", (0,), brush)
    kept.of(b"c", (0,), brush)  # takes the place of seed 1, which nobody asked for since
    kept.of(b"a", (0,), brush)
    kept.of(b"b", (0,), brush)
    assert brush.drawn == [(0, 1), (0,), (0,)]
    kept.of(b"a", (1,), brush)
    assert brush.drawn[-1] == (1,)
    # More than fits is handed out all the same.
    assert len(kept.of(b"d", (0, 1, 2, 3), brush)) == 4


def test_a_kept_picture_holds_no_more_memory_than_its_own() -> None:
    kept = KeptPictures()
    (one,) = kept.of(b"a", (0,), lambda _: torch.zeros(8, 3, 4, 4)[:1])
    assert one.untyped_storage().nbytes() == PICTURE.nbytes


def test_one_bit_and_every_setting_make_another_key() -> None:
    embedding = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    changed = embedding.clone()
    changed[0, 0] = torch.nextafter(changed[0, 0], torch.tensor(9.0))
    keys = [
        key_of(embedding, SAMPLING),
        key_of(changed, SAMPLING),
        key_of(embedding.view(4, 3), SAMPLING),
        key_of(embedding.half(), SAMPLING),
        key_of(embedding.bfloat16(), SAMPLING),
        *(
            key_of(embedding, dataclasses.replace(SAMPLING, **one))
            for one in ({"steps": 3}, {"negative": ""})
        ),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of(embedding.clone(), Sampling(2, 3.0)) == keys[0]


@pytest.fixture
def lora():
    base = load_base("tiny")
    factors = {site: pair for site, pair in random_factors(base).items() if site.startswith("unet.")}
    return dataclasses.replace(random_lora(), factors=factors)


def test_fixed_prompts_are_encoded_one_by_one(monkeypatch, lora) -> None:
    """On a GPU the last bits of an embedding depend on the batch: two attacks would share nothing."""
    base, batches = load_base("tiny"), list[int]()
    encode = Base.encode_text
    monkeypatch.setattr(
        Base, "encode_text", lambda self, prompts: batches.append(len(prompts)) or encode(self, prompts)
    )
    aims = {
        aim.attack: aim for attack in (GuidanceAttack(), PromptsAttack()) for aim in attack.aims(lora, base)
    }
    assert batches == [1] * 5
    for name in ("class", "any-name"):
        pair = (aims[f"{attack}:{name}"].embedding for attack in ("guidance", "prompts"))
        assert len({key_of(one, SAMPLING) for one in pair}) == 1


def test_the_next_file_draws_the_fixed_prompts_no_more(monkeypatch, lora) -> None:
    monkeypatch.setattr(story, "asks_for_controls", lambda *_: True)
    plain: list[int] = []
    sample = Base.sample

    def counted(self, embedding, seeds, settings):
        plain.extend([] if self.loras else seeds)
        return sample(self, embedding, seeds, settings)

    monkeypatch.setattr(Base, "sample", counted)
    auditor = Auditor(Request(base="tiny", attacks=("prompts",), samples=2, steps=1, offline=True))
    first = auditor.audit(lora)
    assert plain == [0, 1] * 3
    again = auditor.audit(dataclasses.replace(lora, factors=dict(list(lora.factors.items())[:9])))
    assert plain == [0, 1] * 3
    assert first.settings.evaluations == again.settings.evaluations
    # Its own text tower makes embeddings of its own.
    auditor.audit(random_lora(base=load_base("tiny")))
    assert plain == [0, 1] * 6
