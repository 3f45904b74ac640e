"""facenet-pytorch: its detector on a photograph, its network with random weights, no pickle at run time."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from safetensors.torch import load_file, save_file
from skimage import data
from torch import Tensor

from loraudit.cards import FACE_RECORD
from loraudit.errors import Incomplete, LorauditError
from loraudit.scores.facenet import Facenet, convert_facenet, facenet_weights, load_facenet


@pytest.fixture(scope="module")
def network() -> InceptionResnetV1:
    torch.manual_seed(0)
    return InceptionResnetV1(pretrained=None, classify=False).eval()


@pytest.fixture(scope="module")
def astronaut() -> Tensor:
    return torch.from_numpy(data.astronaut()[:256, 100:356].copy()).permute(2, 0, 1).float() / 255


def test_the_astronaut_is_found_and_noise_is_not(network: InceptionResnetV1, astronaut: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((3, 256, 256), generator=generator)
    broken = torch.full((3, 256, 256), torch.nan)
    coffee = torch.from_numpy(data.coffee()[:256, 100:356].copy()).permute(2, 0, 1).float() / 255
    faces = Facenet(network).embed(torch.stack([astronaut, noise, broken, coffee]))
    assert faces.found == (True, False, False, False)
    assert faces.vectors.shape == (4, 512)
    assert torch.isclose(faces.vectors[0].norm(), torch.tensor(1.0), atol=1e-5)
    assert torch.equal(faces.vectors[1:], torch.zeros(3, 512))


@pytest.mark.parametrize("side", [1, 16, 20])
def test_a_picture_too_small_for_a_face_holds_none(network: InceptionResnetV1, side: int) -> None:
    faces = Facenet(network).embed(torch.rand((1, 3, side, 2 * side), generator=torch.Generator()))
    assert faces.found == (False,)


def test_a_face_does_not_depend_on_the_batch(network: InceptionResnetV1, astronaut: Tensor) -> None:
    scorer = Facenet(network)
    pictures = torch.stack([astronaut.flip(2), torch.zeros_like(astronaut), astronaut])
    together, alone = scorer.embed(pictures), scorer.embed(astronaut[None])
    assert together.found == (True, False, True)
    assert torch.allclose(together.vectors[2], alone.vectors[0], atol=1e-5)
    assert not torch.allclose(together.vectors[0], alone.vectors[0], atol=1e-5)


def test_the_crop_is_the_head_at_160_px_in_fixed_standardisation(
    network: InceptionResnetV1, astronaut: Tensor
) -> None:
    crop = Facenet(network)._crop(astronaut)
    assert crop is not None and crop.shape == (3, 160, 160)
    assert crop.min() >= -127.5 / 128 and crop.max() <= 127.5 / 128
    # MTCNN's box is near 181..268 x 62..172 in the full picture: the crop shows that part, not the whole
    head = astronaut[:, 55:180, 75:175].mean((1, 2))
    assert torch.allclose((crop.mean((1, 2)) * 128 + 127.5) / 255, head, atol=0.1)


def _pickle(network: InceptionResnetV1, folder: Path) -> tuple[Path, str]:
    source = folder / "20180402-114759-vggface2.pt"
    state = {**network.state_dict(), "logits.weight": torch.zeros(3, 512), "logits.bias": torch.zeros(3)}
    torch.save(state, source)
    return source, hashlib.sha256(source.read_bytes()).hexdigest()


def test_converted_weights_equal_the_source(
    network: InceptionResnetV1, astronaut: Tensor, tmp_path: Path
) -> None:
    source, sha256 = _pickle(network, tmp_path)
    converted = tmp_path / "facenet.safetensors"
    convert_facenet(source, converted, sha256)
    before, after = torch.load(source, weights_only=True), load_file(converted)
    assert before.keys() == after.keys()
    assert before and all(torch.equal(before[name], after[name]) for name in before)
    embedded = load_facenet(converted).embed(astronaut[None]).vectors
    assert torch.equal(embedded, Facenet(network).embed(astronaut[None]).vectors)


def test_another_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    source = tmp_path / "20180402-114759-vggface2.pt"
    source.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(LorauditError, match="not the published face model"):
        convert_facenet(source, tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_offline_without_weights_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(Incomplete) as caught:
        facenet_weights(tmp_path / "cache", offline=True)
    assert "--offline" in str(caught.value) and "\n" not in str(caught.value)
    assert "vggface2.pt" in caught.value.hint
    ready = tmp_path / "cache" / "facenet-vggface2.safetensors"
    ready.parent.mkdir()
    ready.touch()
    ready.with_name(FACE_RECORD).write_text(hashlib.sha256(b"").hexdigest())
    assert facenet_weights(tmp_path / "cache", offline=True) == ready


@pytest.mark.parametrize("change", ["a byte", "no record", "another record", "no text", "a pipe"])
def test_weights_that_differ_from_their_record_are_converted_again(
    network: InceptionResnetV1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    checkpoints, cache = tmp_path / "torch" / "checkpoints", tmp_path / "cache"
    checkpoints.mkdir(parents=True)
    source, sha256 = _pickle(network, checkpoints)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(convert_facenet, "__defaults__", (sha256,))
    converted = facenet_weights(cache, offline=True)
    record, whole, when = cache / FACE_RECORD, converted.read_bytes(), converted.stat().st_mtime_ns
    assert record.read_text() == f"{hashlib.sha256(whole).hexdigest()}\n"
    facenet_weights(cache, offline=True)
    assert converted.stat().st_mtime_ns == when, "what has its hash is left alone"

    if change == "a byte":
        converted.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif change == "another record":
        record.write_text("0" * 64)
    elif change == "no text":
        record.write_bytes(b"\xff" * 200)
    else:
        record.unlink()
    if change == "a pipe":
        os.mkfifo(record)
    # Offline and without the source, changed weights are not used.
    source.rename(tmp_path / "away")
    with pytest.raises(Incomplete, match="changed since it was converted"):
        facenet_weights(cache, offline=True)
    (tmp_path / "away").rename(source)
    assert facenet_weights(cache, offline=True) == converted
    assert converted.read_bytes() == whole
    assert record.read_text() == f"{hashlib.sha256(whole).hexdigest()}\n"


def test_without_a_network_nothing_half_fetched_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    # the discard port of this machine: refused at once
    monkeypatch.setattr("loraudit.scores.facenet.SOURCE_URL", "http://127.0.0.1:9/vggface2.pt")
    with pytest.raises(Incomplete, match="cannot be fetched") as caught:
        facenet_weights(tmp_path / "cache", offline=False)
    assert "\n" not in str(caught.value) and caught.value.hint
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("at_hand", [False, True])
def test_a_cache_that_cannot_be_written_is_a_gap_that_names_no_folder(
    network: InceptionResnetV1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_hand: bool
) -> None:
    checkpoints = tmp_path / "torch" / "checkpoints"
    checkpoints.mkdir(parents=True)
    source, sha256 = _pickle(network, checkpoints)
    if not at_hand:
        source.unlink()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(convert_facenet, "__defaults__", (sha256,))
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(Incomplete) as caught:
        facenet_weights(blocked / "cache", offline=at_hand)
    assert str(tmp_path) not in f"{caught.value} {caught.value.hint}"
    # control: the same download is converted where the folder can be written
    if at_hand:
        found = facenet_weights(tmp_path / "cache", offline=True)
        assert {path.name for path in (tmp_path / "cache").iterdir()} == {found.name, FACE_RECORD}


@pytest.mark.parametrize("damage", ["truncated", "another network"])
def test_damaged_weights_are_one_clear_line(tmp_path: Path, damage: str) -> None:
    weights = tmp_path / "facenet.safetensors"
    save_file({"last_linear.weight": torch.from_numpy(np.zeros((512, 4), np.float32))}, weights)
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(LorauditError, match="cannot be read") as caught:
        load_facenet(weights)
    assert "\n" not in str(caught.value)
