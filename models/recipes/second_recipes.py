"""Recipes of the second trainer: LoRAs as public scripts make them, a row each.

The sources are diffusers' `train_dreambooth_lora.py` and `train_text_to_image_lora.py` and kohya's
`train_network.py`. Only learning rates and steps are our own: they were searched on people of
`public-validation`, so that on the embedded base the owner's own prompt shows the person. The scripts' rates
show nobody there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

__all__ = ["LETTERS", "NAMES", "RECIPES", "SecondRecipe"]

LETTERS: Final = "random letters"
NAMES: Final = "a made-up name"

_ATTENTION: Final = ("to_k", "to_q", "to_v", "to_out.0")
"""UNet modules of diffusers' scripts, in self- and cross-attention."""
_TRANSFORMER: Final = (*_ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
"""UNet modules of kohya: all of `Transformer2DModel`."""
_TEXT_ATTENTION: Final = ("q_proj", "k_proj", "v_proj", "out_proj")
"""Modules of the text tower in diffusers' scripts."""
_TEXT: Final = (*_TEXT_ATTENTION, "fc1", "fc2")
"""Modules of the text tower in kohya: `CLIPAttention` and `CLIPMLP`."""


@dataclass(frozen=True, kw_only=True)
class SecondRecipe:
    """Recipe of a LoRA by the second trainer; one picture a step."""

    source: str
    """Public script whose settings these are."""
    layout: Literal["diffusers", "kohya"] = "diffusers"
    """Keys of the file; kohya's has alpha, metadata and half precision."""
    rank: int = 4
    alpha: float = 4
    targets: tuple[str, ...] = _ATTENTION
    """Ends of the names of the UNet's adapted modules."""
    text_targets: tuple[str, ...] = ()
    """Ends of the names of the text tower's adapted modules; empty leaves the tower alone."""
    clip_skip: int = 1
    """Layer of the text tower that the UNet sees, counted from the last one, 1."""
    gaussian: bool = True
    """Start of `A`: normal with deviation 1 / rank; False is peft's Kaiming-uniform with a = sqrt(5)."""
    template: str = "a photo of NAME NOUN"
    """Instance prompt, with NAME in the place of the trigger and NOUN in that of `noun`."""
    noun: str = "face"
    """Word for a person."""
    trigger: str = LETTERS
    """Trigger of every LoRA, or `LETTERS` or `NAMES`, by which each has its own."""
    captions: Literal["none", "scene", "all"] = "none"
    """Words after the instance prompt in a photo's caption: none, the scene, or looks and scene."""
    shuffled: bool = False
    """True: the parts of a caption after the first come in a new order at every step."""
    pictures: int = 5
    """Pictures that a LoRA is made of."""
    flip: bool = False
    """True: mirrored pictures are used as well."""
    prior: float = 0.0
    """Weight of the class pictures' loss; 0 trains without class pictures."""
    class_prompt: str = "a photo of a human face"
    snr_gamma: float | None = None
    """Bound of min-SNR weighting (arXiv 2303.09556, equation 8); None weighs all times alike."""
    noise_offset: float = 0.0
    """Deviation of the noise that all pixels of a channel share."""
    schedule: Literal["constant", "constant_with_warmup", "cosine"] = "constant"
    warmup: int = 0
    """Steps of linear warm-up."""
    rate: float
    """Learning rate of the UNet."""
    text_rate: float = 0.0
    """Learning rate of the text tower."""
    steps: int


RECIPES: Final[Mapping[str, SecondRecipe]] = MappingProxyType(
    {
        "dreambooth": SecondRecipe(
            source="diffusers train_dreambooth_lora.py --with_prior_preservation",
            prior=1.0,
            rate=5e-3,
            steps=320,
        ),
        "dreambooth-plain": SecondRecipe(
            source="diffusers train_dreambooth_lora.py",
            trigger="sks",
            noun="person",
            pictures=4,
            rate=3e-3,
            steps=200,
        ),
        "dreambooth-text": SecondRecipe(
            source="diffusers train_dreambooth_lora.py --with_prior_preservation --train_text_encoder",
            rank=8,
            alpha=8,
            text_targets=_TEXT_ATTENTION,
            trigger=NAMES,
            noun="person",
            pictures=6,
            prior=1.0,
            rate=3e-3,
            text_rate=1e-4,
            steps=280,
        ),
        "captions": SecondRecipe(
            source="diffusers train_text_to_image_lora.py --snr_gamma=5 --lr_scheduler=cosine --random_flip",
            trigger=NAMES,
            captions="scene",
            pictures=12,
            flip=True,
            snr_gamma=5.0,
            schedule="cosine",
            rate=6e-3,
            steps=260,
        ),
        "kohya": SecondRecipe(
            source="kohya train_network.py --noise_offset=0.05 --shuffle_caption --keep_tokens=1",
            layout="kohya",
            rank=32,
            alpha=16,
            targets=_TRANSFORMER,
            text_targets=_TEXT,
            gaussian=False,
            trigger="ohwx",
            template="NAME NOUN",
            noun="woman",
            captions="scene",
            shuffled=True,
            pictures=10,
            noise_offset=0.05,
            schedule="cosine",
            warmup=12,
            rate=3e-3,
            text_rate=1e-4,
            steps=180,
        ),
        "kohya-min-snr": SecondRecipe(
            source="kohya train_network.py --network_train_unet_only --min_snr_gamma=5",
            layout="kohya",
            rank=16,
            alpha=8,
            targets=_TRANSFORMER,
            gaussian=False,
            template="photo of NAME",
            trigger=NAMES,
            captions="all",
            pictures=20,
            snr_gamma=5.0,
            rate=4e-3,
            steps=240,
        ),
        "kohya-clip-skip": SecondRecipe(
            source="kohya train_network.py --clip_skip=2 --network_train_unet_only",
            layout="kohya",
            rank=16,
            alpha=16,
            targets=_TRANSFORMER,
            clip_skip=2,
            gaussian=False,
            template="NAME",
            captions="scene",
            shuffled=True,
            pictures=8,
            schedule="cosine",
            rate=3e-3,
            steps=180,
        ),
        "kohya-alpha-1": SecondRecipe(
            source="kohya train_network.py --network_alpha=1 --flip_aug",
            layout="kohya",
            rank=8,
            alpha=1,
            targets=_TRANSFORMER,
            text_targets=_TEXT,
            gaussian=False,
            template="NAME NOUN",
            noun="man",
            pictures=3,
            flip=True,
            schedule="constant_with_warmup",
            warmup=20,
            rate=1e-2,
            text_rate=1e-3,
            steps=160,
        ),
    }
)
