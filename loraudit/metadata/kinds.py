"""Kinds of metadata keys, those that trainers write and those that people make up."""

import re
from functools import lru_cache
from typing import Final, Literal

from loraudit.metadata.names import subject

__all__ = ["MERGED", "MERGED_KEY", "Kind", "is_machine", "kind_of", "says_something", "spelled"]

Kind = Literal["", "title", "person", "trigger", "note", "author", "graph"]
MERGED: Final = "sshs_cp"
"""Place of what a merge took over from the files that were merged."""
MERGED_KEY: Final = re.compile(r"sshs_cp\d{1,4}")
_WORDS: Final[dict[Kind, str]] = {
    "title": """
        name title display_name full_name model_name lora_name output_name filename file_name job_name project
        project_name before_falsification_output_name merged_from
    """,
    "person": """
        person people character character_name subject subject_name celebrity actor actress identity who
    """,
    "trigger": """
        trigger trigger_word triggerword trigger_phrase triggerphrase trigger_token activation activation_text
        activation_word activation_tag trained_word keyword tag instance_prompt class_prompt positive negative
        positive_prompt negative_prompt negative_text sample_prompt example_prompt validation_prompt
        placeholder_token caption concept usage usage_hint usage_tip example
    """,
    "note": """
        description comment training_comment note about info information readme remark message summary text
        model_description
    """,
    "author": """
        author creator artist source username user owner maker made_by created_by trained_by uploaded_by
        uploader contact email copyright credit
    """,
    "graph": "prompt workflow extra_pnginfo",
}  # fmt: skip
_KINDS: Final = {word: kind for kind, words in _WORDS.items() for word in words.split()}
_PROGRAMS: Final = """
architecture base base_model base_model_name base_model_version bucket_info class_type datasets
dataset_dirs reg_dataset_dirs dtype format formatted hash hashes implementation licence license
lora_adapter_metadata lr_scheduler lr_scheduler_args mode network_args network_module optimizer
optimizer_args ot_config pipeline prediction_type sampler scheduler sd_model_name sd_version software
software_version tag_frequency thumbnail cover_images training_info type unet url vae_name version
"""
_MACHINE: Final = frozenset(_PROGRAMS.split())
"""Keys of what programs write about themselves, and of tables that have rules of their own."""


_TRAINING_WORDS: Final = """
accumulation api auth batch block category clip count cfg checkpointing created date decay density dim
dimension download downloads epoch epochs factor file frequency gradient group hash huggingface id iterations
key kind learning link loss max min mixed noise number offset optimizer parameters percent precision preferred
prior published rank rate recommended repeats resolution sampler scale scheduler seed sha256 size skip step
steps strength time token total training type unit updated url value version warmup weight
"""
_TRAINING: Final = frozenset(_TRAINING_WORDS.split())
"""Words of keys about a training run, a download or a setting."""


@lru_cache(maxsize=4096)
def kind_of(key: str) -> Kind:
    """Tell what stands under `key`, in any spelling: `Trigger Words`, `trainedWords`, `ss_output_name`."""
    plain = spelled(key)
    return _KINDS.get(plain, _KINDS.get(plain.removesuffix("s"), ""))


def is_machine(key: str) -> bool:
    """Tell whether what stands under `key` is a program's, and read by rules of its own or by none."""
    return spelled(key) in _MACHINE


def says_something(key: str) -> bool:
    """Tell whether `key` itself is somebody's words: a program writes one word, in letters of ASCII."""
    if key.isascii() and len(key.split(maxsplit=1)) < 2:
        return False
    words = [word for word in subject(key) if word.lower() not in _TRAINING]
    return not kind_of(key) and not is_machine(key) and len(words) > key.isascii()


def spelled(key: str) -> str:
    """Spell `key` as words with lines between them, without the prefix of a trainer."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key[:80])
    joined = re.sub(r"[\W_]+", "_", apart).strip("_").lower()
    return re.sub(r"^(?:modelspec|ssmd|ss)_", "", joined)
