"""What the user typed, and the files it means."""

from pathlib import Path

import pytest

from loraudit.errors import LorauditError, NotScannable
from loraudit.lora import load_lora, write_diffusers, write_peft
from loraudit.lora.source.source import find_source


def test_a_folder_with_one_file(tmp_path: Path, sd1_factors) -> None:
    write_diffusers(sd1_factors, tmp_path / "pytorch_lora_weights.safetensors")
    (tmp_path / "README.md").write_text("a photo of sks person")
    assert (
        load_lora(tmp_path).file.sha256
        == load_lora(tmp_path / "pytorch_lora_weights.safetensors").file.sha256
    )


def test_a_folder_with_two_files_asks_which(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b\x1b.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(LorauditError, match=r"holds 2 \.safetensors files") as caught:
        find_source(tmp_path)
    assert (caught.value.exit_code, caught.value.hint) == (2, r"name one: a.safetensors, b\x1b.safetensors")


def test_peft_folders(tmp_path: Path, sd1_factors) -> None:
    write_peft(sd1_factors, tmp_path)
    whole = find_source(tmp_path)
    assert [part.weights.parent.name for part in whole.parts] == ["text_encoder", "unet"]
    assert all(part.config is not None for part in whole.parts)
    alone = load_lora(tmp_path / "unet")
    direct = load_lora(tmp_path / "unet" / "adapter_model.safetensors")
    assert (
        set(alone.factors)
        == set(direct.factors)
        == {site for site in sd1_factors if site.startswith("unet.")}
    )


def test_a_peft_file_without_its_configuration_says_so(tmp_path: Path, sd1_factors) -> None:
    write_peft(sd1_factors, tmp_path)
    (tmp_path / "unet" / "adapter_config.json").unlink()
    (missing,) = load_lora(tmp_path / "unet").unread
    assert missing.key == "adapter_config.json"
    assert "taken as 1" in missing.why


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "holds no LoRA file"),
        (["notes.txt"], "holds no LoRA file"),
        (["pytorch_lora_weights.bin"], "pickle"),
        (["model_index.json", "x.safetensors"], "a whole diffusion model"),
    ],
)
def test_folders_without_a_lora(tmp_path: Path, names: list[str], words: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(NotScannable, match=words) as caught:
        find_source(tmp_path)
    assert caught.value.hint


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for target in (tmp_path / "no\nthing", tmp_path / "link", "", tmp_path / ("x" * 300)):
        with pytest.raises(LorauditError) as caught:
            load_lora(target)
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)


def test_the_current_folder_has_a_name(tmp_path: Path, sd1_factors, monkeypatch) -> None:
    write_diffusers(sd1_factors, tmp_path / "x.safetensors")
    monkeypatch.chdir(tmp_path)
    assert load_lora(".").file.name == tmp_path.name
