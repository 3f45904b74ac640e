"""tiny-face: what its vectors promise, its files, its threshold, and a gate that tells faces from noise."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from loraudit.cards import artefact
from loraudit.errors import LorauditError
from loraudit.people.identity import SPLITS
from loraudit.people.portrait import picture
from loraudit.people.things import Things
from loraudit.scores import fit_square, paper_clip_t, paper_similarity
from loraudit.scores.face import TinyFace, load_tiny_face
from loraudit.scores.face_net import TinyFaceConfig, TinyFaceNet
from models.recipes.face_gate import check_gate, fit_gate, non_faces, overshot
from models.recipes.face_model import save_tiny_face, threshold_at_far

CONFIG = TinyFaceConfig(width=8, dim=16, threshold=0.5, far=1e-3, gate=0.0)


def network(seed: int = 0) -> TinyFaceNet:
    """A random network whose batch norms have seen pictures, so that every layer does something."""
    torch.manual_seed(seed)
    net = TinyFaceNet(CONFIG.width, CONFIG.dim)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.normal_(norm.weight, 1.0, 0.1)
        norm.momentum = 1.0
    with torch.no_grad():
        net(drawings(64, seed))
    return net.eval()


def drawings(count: int, seed: int) -> Tensor:
    """Cartoon faces `[count, 3, 64, 64]`: skin on a background, two eyes, a mouth, all jittered."""
    generator = torch.Generator().manual_seed(seed)
    r = torch.rand((6, count, 1, 1), generator=generator)
    colours = torch.rand((3, count, 3, 1, 1), generator=generator)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    u, v = x - 0.2 * (r[0] - 0.5), y - 0.2 * (r[1] - 0.5)
    head = (u / (0.5 + 0.2 * r[2])) ** 2 + (v / (0.7 + 0.2 * r[3])) ** 2 < 1
    eyes = ((u.abs() - 0.25) / 0.09) ** 2 + ((v + 0.15) / (0.05 + 0.05 * r[4])) ** 2 < 1
    mouth = (u / (0.15 + 0.1 * r[5])) ** 2 + ((v - 0.4) / 0.06) ** 2 < 1
    pictures = torch.where(head[:, None], 0.4 + 0.5 * colours[1], colours[0])
    pictures = torch.where(eyes[:, None], 0.3 * colours[2], pictures)
    return torch.where(mouth[:, None], torch.tensor([0.6, 0.1, 0.1]).view(3, 1, 1), pictures)


def test_vectors_are_unit_and_do_not_depend_on_the_batch() -> None:
    pictures = drawings(9, 1)
    scorer = TinyFace(network(), TinyFaceConfig(**{**vars(CONFIG), "gate": -1e9}))
    together = scorer.embed(pictures)
    assert together.found == (True,) * 9
    assert torch.allclose(together.vectors.norm(dim=1), torch.ones(9), atol=1e-5)
    for index in range(9):
        alone = scorer.embed(pictures[index : index + 1])
        assert torch.allclose(alone.vectors[0], together.vectors[index], atol=1e-5)
    assert not torch.allclose(together.vectors[0], together.vectors[1], atol=1e-2)


def test_another_size_is_cut_to_the_centre_and_scaled() -> None:
    picture = drawings(1, 2)
    wide = torch.nn.functional.pad(picture, (10, 10), value=0.5)
    assert torch.equal(fit_square(wide, 64), picture)
    assert fit_square(torch.rand(2, 3, 50, 91), 64).shape == (2, 3, 64, 64)
    bigger = torch.nn.functional.interpolate(picture, scale_factor=4, mode="nearest")
    assert (fit_square(bigger, 64) - picture).abs().mean() < 0.01
    assert (fit_square(bigger.roll(40, 3), 64) - picture).abs().mean() > 0.05


def test_no_picture_and_a_nan_picture() -> None:
    scorer = TinyFace(network(), TinyFaceConfig(**{**vars(CONFIG), "gate": -1e9}))
    assert scorer.embed(torch.zeros(0, 3, 64, 64)).vectors.shape == (0, 16)
    pictures = drawings(2, 3)
    pictures[0, 0, 5, 5] = torch.nan
    faces = scorer.embed(pictures)
    assert faces.found == (False, True)
    assert torch.equal(faces.vectors[0], torch.zeros(16))


def test_saved_and_loaded_network_gives_the_same_vectors(tmp_path: Path) -> None:
    net, pictures = network(), drawings(3, 4)
    save_tiny_face(net, CONFIG, tmp_path)
    loaded = load_tiny_face(tmp_path)
    assert loaded.config == CONFIG
    assert (loaded.threshold, loaded.far) == (0.5, 1e-3)
    before = TinyFace(net, CONFIG).embed(pictures)
    after = loaded.embed(pictures)
    assert torch.equal(before.vectors, after.vectors) and before.found == after.found
    other = TinyFace(network(seed=1), CONFIG).embed(pictures)
    assert not torch.allclose(before.vectors, other.vectors, atol=1e-2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("damage", ["no folder", "truncated", "wrong width", "no threshold", "not json"])
def test_a_damaged_folder_is_one_clear_line(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "tiny-face"
    if damage != "no folder":
        save_tiny_face(network(), CONFIG, folder)
        values = json.loads((folder / "config.json").read_text())
        if damage == "truncated":
            weights = folder / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:1000])
        elif damage == "not json":
            (folder / "config.json").write_text("{")
        else:
            values.update(width=4) if damage == "wrong width" else values.pop("threshold")
            (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(LorauditError) as caught:
        load_tiny_face(folder)
    assert "\n" not in str(caught.value) and caught.value.hint


def test_the_default_network_is_small() -> None:
    net = TinyFaceNet()
    assert sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values()) < 4_000_000
    output = net.eval()(torch.rand(2, 3, 64, 64))
    assert output.embedding.shape == (2, 128) and output.face_logit.shape == (2,)


def test_the_gate_finds_faces_and_nothing_else() -> None:
    net = network()
    generator = torch.Generator().manual_seed(5)
    fit_gate(net, drawings(300, 6), non_faces(drawings(300, 7), generator))
    check = check_gate(net, drawings(100, 8), non_faces(drawings(100, 9), generator), missed=0.02)
    assert check.faces_passed >= 0.97
    assert check.others_passed <= 0.20
    scorer = TinyFace(net, TinyFaceConfig(**{**vars(CONFIG), "gate": check.gate}))
    faces = scorer.embed(drawings(40, 10))
    assert sum(faces.found) >= 37
    noise, flat = torch.rand((10, 3, 64, 64), generator=generator), torch.full((1, 3, 64, 64), 0.5)
    nobody = scorer.embed(torch.cat([noise, flat]))
    assert nobody.found and not any(nobody.found)
    assert torch.equal(nobody.vectors, torch.zeros(11, 16))


def test_the_shipped_gate_finds_people_and_nothing_else() -> None:
    scorer = load_tiny_face(artefact("tiny-face"))
    private = SPLITS["private"][-40:]
    people = torch.stack([torch.from_numpy(picture(seed, 0)) for seed in private]).permute(0, 3, 1, 2) / 255
    assert sum(scorer.embed(people).found) >= 38
    others = non_faces(people, torch.Generator().manual_seed(0))
    assert sum(scorer.embed(others).found) <= 1
    drawn = Things()
    things = torch.cat([drawn.pictures(seed, 64, 2) for seed in private])
    assert sum(scorer.embed(things).found) <= 2
    # As guidance overdraws them, people are people and things are things.
    generator = torch.Generator().manual_seed(1)
    assert sum(scorer.embed(overshot(people, generator)).found) >= 36
    assert sum(scorer.embed(overshot(things, generator)).found) <= 2


def test_overdrawn_faces_are_pictures_further_from_grey() -> None:
    faces = drawings(20, 12)
    over = overshot(faces, torch.Generator().manual_seed(0))
    assert over.shape == faces.shape and over.min() >= 0 and over.max() <= 1
    assert over.std() > faces.std()
    assert torch.equal(over, overshot(faces, torch.Generator().manual_seed(0)))
    assert not torch.equal(over, overshot(faces, torch.Generator().manual_seed(1)))


def test_an_unfitted_gate_tells_nothing_apart() -> None:
    generator = torch.Generator().manual_seed(5)
    check = check_gate(network(), drawings(100, 8), non_faces(drawings(100, 9), generator), missed=0.02)
    assert check.others_passed >= 0.80


def test_non_faces_are_pictures_and_not_the_faces() -> None:
    faces = drawings(10, 11)
    others = non_faces(faces, torch.Generator().manual_seed(0))
    assert others.shape == faces.shape and others.min() >= 0 and others.max() <= 1
    assert (others - faces).abs().mean((1, 2, 3)).min() > 0.02
    assert torch.equal(others, non_faces(faces, torch.Generator().manual_seed(0)))


def test_the_threshold_accepts_no_more_impostors_than_stated() -> None:
    impostors = torch.linspace(-1, 0.9, 20_000, dtype=torch.float64)[torch.randperm(20_000)]
    threshold = threshold_at_far(impostors, 1e-3)
    assert (impostors >= threshold).double().mean() <= 1e-3
    assert (impostors >= threshold - 2e-4).double().mean() > 1e-3
    tied = torch.full((20_000,), 0.3)
    assert (tied >= threshold_at_far(tied, 1e-3)).sum() == 0
    assert (tied >= 0.3).all()
    with pytest.raises(ValueError, match="too few"):
        threshold_at_far(impostors[:5000], 1e-3)


def test_the_papers_scales() -> None:
    cosine = torch.tensor([-1.0, 0.0, 0.5])
    assert paper_similarity(cosine).tolist() == [0.0, 0.5, 0.75]
    assert paper_clip_t(cosine).tolist() == [0.0, 0.0, 50.0]
