"""Headers as trainers write them, and files that carry them."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from loraudit.findings.finding import Finding
from loraudit.lora.source.source import find_source
from loraudit.lora.write import serialize
from loraudit.metadata import read_exposure, traces
from loraudit.metadata.judge import judge_metadata

KOHYA: Mapping[str, str] = {
    "modelspec.architecture": "stable-diffusion-v1/lora",
    "modelspec.date": "2024-06-10T11:52:00",
    "modelspec.encoder_layer": "1",
    "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
    "modelspec.prediction_type": "epsilon",
    "modelspec.resolution": "512x512",
    "modelspec.sai_model_spec": "1.0.1",
    "modelspec.title": "jane_doe_v3",
    "ss_base_model_version": "sd_v1",
    "ss_bucket_info": '{"buckets": {"0": {"resolution": [512, 512], "count": 250}}}',
    "ss_clip_skip": "None",
    "ss_dataset_dirs": '{"10_jane doe person": {"n_repeats": 10, "img_count": 25}}',
    "ss_epoch": "8",
    "ss_learning_rate": "0.0001",
    "ss_network_alpha": "4.0",
    "ss_network_args": '{"conv_dim": "4", "conv_alpha": "1", "algo": "locon", "note": "made by Jane"}',
    "ss_network_dim": "4",
    "ss_network_module": "networks.lora",
    "ss_num_epochs": "8",
    "ss_num_train_images": "250",
    "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1)",
    "ss_output_name": "jane_doe_v3",
    "ss_reg_dataset_dirs": "{}",
    "ss_sd_model_hash": "e1441589",
    "ss_sd_model_name": "/home/jdoe/models/v1-5-pruned-emaonly.safetensors",
    "ss_sd_scripts_commit_hash": "48d368fa",
    "ss_seed": "421337",
    "ss_session_id": "3482910447",
    "ss_steps": "1000",
    "ss_tag_frequency": json.dumps(
        {"10_jane doe person": {"jane doe": 25, "red hair": 11, "photo of jane in her kitchen": 1}}
    ),
    "ss_training_comment": "None",
    "ss_training_finished_at": "1718013120.5",
    "ss_training_started_at": "1718011520.1",
    "ss_v2": "False",
    "ss_vae_name": "None",
    "sshs_legacy_hash": "deadbeef",
    "sshs_model_hash": "ab" * 32,
}
"""What kohya-ss/sd-scripts writes after training on 25 pictures of Jane Doe, east of Greenwich."""

NO_METADATA: Mapping[str, str] = {
    key: KOHYA[key]
    for key in KOHYA
    if key.startswith(("ss_v2", "ss_base", "ss_network", "modelspec")) and key != "ss_network_args"
}
"""What is left of it with `--no_metadata`."""

DIFFUSERS: Mapping[str, str] = {
    "format": "pt",
    "lora_adapter_metadata": json.dumps(
        {
            "unet.alpha_pattern": {},
            "unet.base_model_name_or_path": None,
            "unet.lora_alpha": 4,
            "unet.peft_type": "LORA",
            "unet.r": 4,
            "unet.rank_pattern": {},
            "unet.target_modules": ["to_k", "to_out.0", "to_q", "to_v"],
            "unet.use_rslora": False,
        },
        indent=2,
        sort_keys=True,
    ),
}
"""What `save_lora_weights` of diffusers 0.42 writes."""

ATTN = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
TENSORS = {
    f"{ATTN}.lora.down.weight": np.arange(768, dtype=np.float32).reshape(1, 768),
    f"{ATTN}.lora.up.weight": np.ones((320, 1), np.float32),
}


def write(path: Path, metadata: Mapping[str, str], **more: np.ndarray) -> Path:
    """A one-module LoRA for SD 1.x with this metadata."""
    path.write_bytes(serialize(TENSORS | more, metadata))
    return path


def audit(target: Path) -> dict[str, Finding]:
    """The findings of the metadata audit by id."""
    return {finding.id: finding for finding in judge_metadata(traces(read_exposure(find_source(target))))}


def tensor_bytes(path: Path) -> bytes:
    """The bytes of all tensors of a file, without its header."""
    data = path.read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


def named_adapter(path: Path, *names: str) -> Path:
    """A file of peft's with the names of adapters in the names of its tensors."""
    down, up = TENSORS.values()
    path.write_bytes(
        serialize(
            {
                f"base_model.model.{place}.lora_{side}.{name}.weight": value
                for place, name in zip(("a", "b"), names, strict=False)
                for side, value in (("A", down), ("B", up))
            },
            {},
        )
    )
    return path
