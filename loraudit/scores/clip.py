"""CLIP scores, picture to picture (CLIP-I) or to text (CLIP-T), by an open_clip model, ours or OpenAI's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from loraudit.cards import CLIP_FILE, CLIP_REPO, CLIP_REVISION, CLIP_SHA256, is_fetchable
from loraudit.errors import Incomplete, LorauditError
from loraudit.files import file_sha256
from loraudit.scores import fit_square

__all__ = ["OpenClip", "load_openai_clip", "load_tiny_clip", "openai_clip_config", "openai_clip_weights"]

_BATCH = 64
"""Pictures or texts in a forward pass, at most."""


class OpenClip:
    """CLIP model of open_clip, a `ClipScorer`: pictures and texts to unit vectors `[N, d]`.

    Pictures are scaled and cut to the model's square, then standardised with the `mean` and `std` (of RGB in
    0..1) of its training. `tokenize` maps texts to token ids `[N, context]`.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        tokenize: Callable[[list[str]], Tensor],
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        device: str | torch.device = "cpu",
    ) -> None:
        self.name = name
        # open_clip ships no types
        self._model: Any = model.eval().to(device)
        self._tokenize = tokenize
        self._device = device
        self._mean = torch.tensor(mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(std, device=device).view(3, 1, 1)
        visual: Any = model.visual
        size: int | tuple[int, int] = visual.image_size
        self._side = size if isinstance(size, int) else size[0]

    @torch.inference_mode()
    def image_embeddings(self, images: Tensor) -> Tensor:
        """Embed pictures `[N, 3, H, W]` in 0..1 as unit vectors `[N, d]`, float32 on the CPU."""
        vectors = [
            self._model.encode_image(self._prepare(batch), normalize=True).cpu()
            for batch in images.split(_BATCH)
        ]
        return torch.cat(vectors)

    @torch.inference_mode()
    def text_embeddings(self, texts: list[str]) -> Tensor:
        """Embed N texts, cut at the model's context, as unit vectors `[N, d]`, float32 on the CPU."""
        vectors = [
            self._model.encode_text(batch.to(self._device), normalize=True).cpu()
            for batch in self._tokenize(texts).split(_BATCH)
        ]
        return torch.cat(vectors)

    def _prepare(self, images: Tensor) -> Tensor:
        """Cut pictures to the model's square and standardise them, on the device."""
        square = fit_square(images.to(self._device, torch.float32), self._side)
        return (square - self._mean) / self._std


def load_tiny_clip(folder: Path, device: str | torch.device = "cpu") -> OpenClip:
    """Load the CLIP model of the synthetic people from `folder`.

    The files are `open_clip_config.json`, `model.safetensors` and those of a `CLIPTokenizer`. Raises
    `LorauditError` if a file is missing, damaged or does not fit.
    """
    import open_clip
    from transformers import CLIPTokenizer

    try:
        config = json.loads((folder / "open_clip_config.json").read_text())
        model = open_clip.CLIP(**config["model_cfg"])
        model.load_state_dict(load_file(folder / "model.safetensors"))
        tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
        # without its files CLIPTokenizer is empty and raises nothing
        if len(tokenizer) != model.vocab_size:
            raise ValueError("the tokenizer has another vocabulary")
        mean, std = tuple(config["preprocess_cfg"]["mean"]), tuple(config["preprocess_cfg"]["std"])
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise LorauditError(
            f"the CLIP model in {folder.name} cannot be read ({type(error).__name__})",
            "restore models/tiny-clip from the repository",
        ) from error

    def tokenize(texts: list[str]) -> Tensor:
        ids: Tensor = tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=model.context_length,
            return_tensors="pt",
        ).input_ids
        return ids

    return OpenClip("tiny-clip", model, tokenize, mean, std, device)


def openai_clip_config() -> dict[str, Any]:
    """Return the arguments of `open_clip.CLIP` for OpenAI's ViT-L/14: 224 px, `d = 768`, 77 tokens."""
    import open_clip

    return {**open_clip.get_model_config("ViT-L-14"), "quick_gelu": True}


def openai_clip_weights(*, offline: bool) -> Path:
    """Find the safetensors file of OpenAI's CLIP ViT-L/14 (428 M parameters, 1.7 GB), or fetch it.

    `offline` looks in the Hub's cache alone. Raises `Incomplete` if the file is not on this machine and
    cannot be fetched, `LorauditError` if it is not the published one.
    """
    from huggingface_hub import hf_hub_download

    try:
        local = offline or not is_fetchable(CLIP_REPO, (CLIP_FILE,), CLIP_REVISION)
        found = hf_hub_download(CLIP_REPO, CLIP_FILE, revision=CLIP_REVISION, local_files_only=local)
    except (OSError, ValueError) as error:
        reason = "--offline is set" if offline else f"it cannot be fetched ({type(error).__name__})"
        raise Incomplete(
            f"CLIP ViT-L/14 is not on this machine, and {reason}",
            f"fetch it with: hf download {CLIP_REPO} {CLIP_FILE} --revision {CLIP_REVISION}",
        ) from error
    weights = Path(found)
    if file_sha256(weights) != CLIP_SHA256:
        raise LorauditError(
            "CLIP ViT-L/14 in the Hub cache is not the published file",
            "delete it with 'loraudit cache clear', and check HF_ENDPOINT before it is fetched again",
        )
    return weights


def load_openai_clip(weights: Path, device: str | torch.device = "cpu") -> OpenClip:
    """Load OpenAI's CLIP ViT-L/14 from the file `weights`.

    Raises `LorauditError` if the file is damaged or another model's.
    """
    import open_clip

    try:
        state = load_file(weights)
        model = open_clip.CLIP(**openai_clip_config())
        model.load_state_dict(state)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise LorauditError(
            f"the CLIP model {weights.name} cannot be read ({type(error).__name__})",
            "delete the file and try again",
        ) from error
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    return OpenClip("clip-vit-l-14-openai", model, open_clip.get_tokenizer("ViT-L-14"), mean, std, device)
