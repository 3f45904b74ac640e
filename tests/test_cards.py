"""The cards are found, complete, and a changed file is noticed."""

import hashlib
import re
from pathlib import Path

import pytest

from loraudit.cards import artefact, base_card, base_names, models_dir, verify
from loraudit.errors import LorauditError


def test_every_card_is_complete() -> None:
    assert base_names()[:3] == ("tiny", "sd14", "sd15")
    for name in base_names():
        card = base_card(name)
        assert card.name == name
        assert card.licence
        assert card.dtype in {"float16", "float32"}
        assert min(*card.embedding_shape, card.image_size) > 0
        if card.revision is None:
            assert card.folder == models_dir() / card.where
        else:
            assert re.fullmatch("[0-9a-f]{40}", card.revision), "a Hub base is pinned to a commit"
            assert card.folder is None


def test_the_targets() -> None:
    assert base_card("sd14").where == "CompVis/stable-diffusion-v1-4"
    assert base_card("sd14").embedding_shape == base_card("sd15").embedding_shape == (77, 768)
    assert (base_card("tiny").embedding_shape, base_card("tiny").image_size) == ((56, 128), 64)


def test_unknown_names() -> None:
    with pytest.raises(LorauditError, match="no base is called 'sdxl'") as caught:
        base_card("sdxl")
    assert "tiny, sd14" in caught.value.hint
    with pytest.raises(LorauditError, match="lacks models/nothing"):
        artefact("nothing")


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"right")
    hashes = {"weights": hashlib.sha256(b"right").hexdigest()}
    verify(tmp_path, hashes)
    (tmp_path / "weights").write_bytes(b"wrong")
    with pytest.raises(LorauditError, match="is not the file"):
        verify(tmp_path, hashes)
    (tmp_path / "weights").unlink()
    with pytest.raises(LorauditError, match="is missing"):
        verify(tmp_path, hashes)
