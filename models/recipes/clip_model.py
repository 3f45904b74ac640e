"""The open_clip model `tiny-clip`, and its text tower as a `CLIPTextModel`, the text encoder of `tiny-sd`.

Both forms of the tower are the same function: pre-norm blocks under a causal mask and a final norm. Names
differ. open_clip keeps query, key and value in one matrix, and the `CLIPTextModel` has no projection into the
space shared with pictures.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from models.recipes.tokenizer import CONTEXT

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "encode_text",
    "export_text_tower",
    "model_config",
    "new_clip",
    "open_clip_folder",
    "save_clip",
    "text_model",
    "to_tensor",
]


def model_config(vocabulary: int) -> dict[str, Any]:
    """Make the `model_cfg` of open_clip_config.json; end of text is the highest of `vocabulary` ids."""
    return {
        "embed_dim": 128,
        "quick_gelu": False,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": vocabulary,
            "hf_tokenizer_name": "tiny-clip",
            "width": 128,
            "heads": 4,
            "layers": 4,
            "pad_id": vocabulary - 1,
            "eos_id": vocabulary - 1,
            "pool_type": "eos",
        },
    }


def new_clip(vocabulary: int) -> open_clip.CLIP:
    """Start the untrained model, from torch's global random state."""
    model = open_clip.CLIP(**model_config(vocabulary))
    nn.init.normal_(model.token_embedding.weight, std=0.3)
    nn.init.normal_(model.positional_embedding, std=0.15)
    return model


def encode_text(model: open_clip.CLIP, ids: Tensor, chunks: int = 1) -> Tensor:
    """Encode ids `[N, L]` to text embeddings `[N, d]`, not normalised, without work on padding.

    The result is that of `model.encode_text`: the mask is causal, so only tokens up to the end of text count.
    Sorting by length into `chunks` saves more work.
    """
    last = (ids == model.text_eos_id).int().argmax(1)
    parts, order = [], last.argsort()
    for rows in order.tensor_split(chunks):
        length = int(last[rows].max()) + 1
        x = model.token_embedding(ids[rows, :length]) + model.positional_embedding[:length]
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
        parts.append(x[torch.arange(len(rows)), last[rows]] @ model.text_projection)
    return torch.cat(parts)[order.argsort()]


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """Turn pixels uint8 `[N, H, W, 3]` into float `[N, 3, H, W]`, standardised by mean 0.5 and std 0.5."""
    x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def save_clip(model: open_clip.CLIP, folder: Path) -> None:
    """Write open_clip_config.json and model.safetensors (float16) beside the tokenizer, for `local-dir:`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_cfg": model_config(model.vocab_size),
        "preprocess_cfg": {
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous().clone()
        for name, value in model.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def open_clip_folder(folder: Path) -> open_clip.CLIP:
    """Open the model that `save_clip` wrote, float32, in evaluation mode."""
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    model = open_clip.CLIP(**config)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.eval()
    return model


_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def text_model(folder: Path) -> CLIPTextModel:
    """Open the text tower of an open_clip folder, float32, in evaluation mode.

    Its `last_hidden_state` is `[N, 56, 128]`.
    """
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    text = config["text_cfg"]
    end: int = text["eos_id"]
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=text["vocab_size"],
            hidden_size=text["width"],
            intermediate_size=4 * text["width"],
            projection_dim=config["embed_dim"],
            num_hidden_layers=text["layers"],
            num_attention_heads=text["heads"],
            max_position_embeddings=text["context_length"],
            hidden_act="quick_gelu" if config["quick_gelu"] else "gelu",
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=end,
        )
    )
    weights = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
    model.load_state_dict(_renamed(weights, text["layers"]))
    model.eval()
    return model


def _renamed(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    out = {
        "embeddings.token_embedding.weight": weights["token_embedding.weight"],
        "embeddings.position_embedding.weight": weights["positional_embedding"],
    }
    for kind in ("weight", "bias"):
        out[f"final_layer_norm.{kind}"] = weights[f"ln_final.{kind}"]
        for layer in range(layers):
            old, new = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
            for a, b in _NAMES.items():
                out[f"{new}.{b}.{kind}"] = weights[f"{old}.{a}.{kind}"]
            parts = weights[f"{old}.attn.in_proj_{kind}"].chunk(3)
            for letter, part in zip("qkv", parts, strict=True):
                out[f"{new}.self_attn.{letter}_proj.{kind}"] = part.clone()
    return out


def export_text_tower(clip_folder: Path, sd_folder: Path) -> None:
    """Write `text_encoder/` and `tokenizer/` of a pipeline folder from an open_clip folder."""
    text_model(clip_folder).save_pretrained(sd_folder / "text_encoder")
    (sd_folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    # The three files of SD-1.4's own tokenizer folder; save_pretrained writes tokenizer.json instead.
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copyfile(clip_folder / name, sd_folder / "tokenizer" / name)
