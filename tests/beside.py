"""A LoRA alone in a folder, and files to put beside it."""

import io
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from loraudit.lora.source.source import find_source
from loraudit.metadata import read_exposure
from loraudit.metadata.unread import gaps
from tests.headers import DIFFUSERS, write

NAME = "pytorch_lora_weights"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A LoRA that says nothing itself, alone in its folder."""
    folder = tmp_path / "lora"
    folder.mkdir()
    write(folder / f"{NAME}.safetensors", DIFFUSERS)
    return folder


def png(text: str = "", mode: str = "RGB") -> bytes:
    info = PngImagePlugin.PngInfo()
    if text:
        info.add_text("parameters", text)
    out = io.BytesIO()
    Image.new(mode, (4, 4)).save(out, "png", pnginfo=info)
    return out.getvalue()


def put(path: Path, data: bytes | str = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def left_out(target: Path) -> list[str]:
    return [gap.what for gap in gaps(read_exposure(find_source(target)))]
