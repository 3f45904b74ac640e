"""Names out of a file, of which the words of networks and trainers are kept."""

import re
from typing import Final

__all__ = ["HIDDEN", "is_public", "named"]

HIDDEN: Final = "(hidden)"
"""Stand-in for words of a file."""

_KNOWN: Final = """
a adalora adapter adaption add alpha attention attentions attn attn1 attn2 b b1 b2 base bf16 bfloat16 bias
block blocks boft bone bool bundle c128 c64 cfg class clip complex64 cond config connection context
control controlnet conv conv1 conv2 cpt cross custom data decoder default diff diffusion dora double down
downsamplers dtype e2m1 e4m3 e4m3fn e4m3fnuz e5m2 e5m2fnuz e8m0 e8m0fnu emb embed embedder embedding
embeddings embeds encoded encoder encoders f16 f32 f4 f6 f64 f8 fc1 fc2 ff ffn final first float16 float32
float64 fnuz format fourierft full g gate glora guidance hada head heads hint hra i i16 i32 i64 i8 ia3
image img in input ip joint json k key keys l layer layers linear list llm ln local logit loha lokr lora
lora_ga loraplus lycoris magnitude main mapping metadata mid middle miss mlp mod model models modulation
module modules motion multitask neck net network networks none norm norm1 norm2 norm3 null num o offsets
oft op orig original out output p param params pattern peft poly pooled pooler position positional prefix
prior processor proj projection prompt q qkv query r randlora rank refiner residual residuals resnets road
s save scale scheduler self shape shift shira shortcut single skip spatial stage state string t t1 t2 t5
t5xxl te te1 te2 te3 temporal tensor tensors text time timestep to token tokens tower trainable
transformer transformers tuning txt type u16 u32 u64 u8 unet unets up upsamplers v vae value vblora vector
vera vision w w1 w2 weight weights x xl xlora y z
"""
_WORDS: Final = frozenset(_KNOWN.split())
"""Words of networks, layouts, adapters and number formats, in small letters."""
_RUN: Final = re.compile(r"[^._:/-]+")
_HIDDEN_RUNS: Final = re.compile(rf"{re.escape(HIDDEN)}(?:[._:/-]{{0,4}}{re.escape(HIDDEN)})+")
_INDEX: Final = re.compile(r"[0-9]{1,3}")
_NUMBERS: Final = re.compile(r"(?<![^._:/-])[0-9]+(?:[._:/-]{1,4}[0-9]+){2,}(?![^._:/-])")
"""Numbers in a row, as in a date, a place or a telephone number; no layer's name has three."""
_LONGEST_NAME: Final = 400


def named(name: object) -> str:
    """Keep of a `name` out of a file what belongs to networks and trainers; hide every other word.

    `bundle_emb.jane doe.string_to_param` gives `bundle_emb.(hidden).string_to_param`. Numbers of up to three
    digits stay, no more than two in a row.
    """
    text = str(name)
    cut = _NUMBERS.sub(HIDDEN, text[:_LONGEST_NAME])
    shown = _RUN.sub(lambda run: run[0] if _is_known(run[0]) else HIDDEN, cut)
    shown = _HIDDEN_RUNS.sub(HIDDEN, shown)
    return shown if len(text) <= _LONGEST_NAME else f"{shown}…"


def is_public(name: str) -> bool:
    """Tell whether `name` is made of words of networks and trainers alone."""
    if len(name) > _LONGEST_NAME or _NUMBERS.search(name):
        return False
    return all(_is_known(run) for run in _RUN.findall(name))


def _is_known(word: str) -> bool:
    return word.lower() in _WORDS or _INDEX.fullmatch(word) is not None
