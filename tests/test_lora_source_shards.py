"""A file in pieces is one LoRA, whichever piece is named and wherever it is cut; a lost piece is told."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from loraudit.errors import NotScannable
from loraudit.lora import Factors, LoRA, load_lora, write_kohya, write_peft
from loraudit.lora.source.shards import first_shards, shards_of
from tests.conftest import SD1_SITES


@pytest.fixture
def factors(make_factors) -> dict[str, Factors]:
    return make_factors("sd15", SD1_SITES)


def cut(whole: Path, count: int) -> list[Path]:
    """Cut the file into pieces tensor by tensor, so that every pair is cut apart."""
    tensors = sorted(load_file(whole).items())
    pieces = [whole.with_name(f"{whole.stem}-{at + 1:05d}-of-{count:05d}.safetensors") for at in range(count)]
    for at, piece in enumerate(pieces):
        save_file(dict(tensors[at::count]), piece, {"ss_output_name": f"ada {at}"})
    whole.unlink()
    return pieces


def same(lora: LoRA, factors: dict[str, Factors]) -> None:
    assert (lora.unread, set(lora.factors)) == ((), set(factors))
    for site, own in factors.items():
        np.testing.assert_allclose(lora.factors[site].delta(), own.delta(), rtol=1e-5)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_pieces_are_one_lora(count: int, factors, scan, tmp_path: Path) -> None:
    write_kohya(factors, tmp_path / "lora.safetensors")
    pieces = cut(tmp_path / "lora.safetensors", count)
    for target in (tmp_path, *pieces):
        same(load_lora(target), factors)
    lora = load_lora(tmp_path)
    assert lora.file.size_bytes == sum(piece.stat().st_size for piece in pieces)
    code, out, _ = scan(tmp_path, "--depth", "weights", "-f", "json")
    report = json.loads(out)
    assert report["target"]["modules"]["unread"] == 0
    assert code in {0, 1}
    # The words of every piece are audited.
    pieces[0].unlink()
    assert "LA-NAME-002" in {finding["id"] for finding in report["findings"]}


def test_pieces_of_a_peft_adapter_take_its_configuration(make_factors, tmp_path: Path) -> None:
    site = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    factors = make_factors("tiny", [site])
    write_peft(factors, tmp_path / "tuned")
    config = tmp_path / "tuned" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 6, "r": 2}))
    cut(tmp_path / "tuned" / "adapter_model.safetensors", 2)
    lora = load_lora(tmp_path / "tuned")
    assert lora.factors[site].scale == 3.0
    assert lora.unread == ()


def test_a_lost_piece_is_told(factors, scan, tmp_path: Path) -> None:
    write_kohya(factors, tmp_path / "lora.safetensors")
    first, second, third, _ = cut(tmp_path / "lora.safetensors", 4)
    second.unlink()
    unread = {item.key: item.why for item in load_lora(first).unread}
    assert unread.pop(second.name) == "this piece of the file is not there"
    assert unread and third.name not in unread
    assert scan(tmp_path, "--depth", "weights")[0] in {1, 4}
    for piece in (third, tmp_path / "lora-00004-of-00004.safetensors"):
        piece.unlink()
    with pytest.raises(NotScannable, match="this piece of the file is not there"):
        load_lora(first)


def test_a_tensor_in_two_pieces_is_unread(factors, tmp_path: Path) -> None:
    write_kohya(factors, tmp_path / "lora.safetensors")
    first, second = cut(tmp_path / "lora.safetensors", 2)
    again = load_file(second)
    key = next(iter(load_file(first)))
    save_file(again | {key: load_file(first)[key]}, second)
    unread = {item.key: item.why for item in load_lora(first).unread}
    assert unread[key] == "this tensor is in two pieces of the file"


def test_other_files_are_no_pieces(factors, tmp_path: Path) -> None:
    """The control: two LoRAs with numbers of their own stay two."""
    for name in ("lora-000001", "lora-000002", "lora-00003-of-00002", "lora-00001-of-99999"):
        write_kohya(factors, tmp_path / f"{name}.safetensors")
        assert shards_of(tmp_path / f"{name}.safetensors") == (tmp_path / f"{name}.safetensors",)
        same(load_lora(tmp_path / f"{name}.safetensors"), factors)
    files = sorted(tmp_path.iterdir())
    assert first_shards(files) == files
