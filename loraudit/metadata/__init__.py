"""Audit of metadata: what a LoRA's files say about people, told from text alone. No numpy, no network.

    files --read_exposure--> Exposure (names, texts) --traces--> Trace, one a text that says something

Keys and what trainers write under them: kohya-ss/sd-scripts `train_network.py` and
`library/sai_model_spec.py`, OneTrainer `DtypeModelSaverMixin.py`, ai-toolkit `toolkit/metadata.py`,
SimpleTuner `save_hooks.py`, diffusers `loaders/lora_base.py`, sd-webui-additional-networks (`ssmd_`).
"""

from loraudit.metadata.exposure import Exposure, header_exposure, read_exposure
from loraudit.metadata.rules import traces

__all__ = ["Exposure", "header_exposure", "read_exposure", "traces"]
