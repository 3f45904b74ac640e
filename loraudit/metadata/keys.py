"""Metadata keys that trainers and programs write: any other key is somebody's own word."""

from typing import Final

from loraudit.metadata.allowed import KEPT_KEYS, PROVENANCE_KEYS

__all__ = ["is_known_key"]

_KOHYA: Final = """
adaptive_noise_scale base_model_version batch_size_per_device before_falsification_output_name
bucket_info bucket_no_upscale cache_latents caption_dropout_every_n_epochs caption_dropout_rate
caption_tag_dropout_rate clip_skip color_aug dataset_dirs datasets debiased_estimation
discrete_flow_shift enable_bucket epoch face_crop_aug_range flip_aug fp8_base full_bf16 full_fp16
gradient_accumulation_steps gradient_checkpointing guidance_scale huber_c huber_scale huber_schedule
ip_noise_gamma ip_noise_gamma_random_strength keep_tokens learning_rate logit_mean logit_std loss_type
lowram lr_scheduler lr_warmup_steps max_bucket_reso max_grad_norm max_token_length max_train_epochs
max_train_steps max_validation_steps min_bucket_reso min_snr_gamma mixed_precision mode_scale
model_prediction_type multires_noise_discount multires_noise_iterations network_alpha network_args
network_dim network_dropout network_module new_sd_model_hash new_vae_hash noise_offset
noise_offset_random_strength num_batches_per_epoch num_epochs num_reg_images num_train_images
num_validation_images optimizer output_name prior_loss_weight random_crop reg_dataset_dirs resolution
scale_weight_norms sd_model_hash sd_model_name sd_scripts_commit_hash seed session_id shuffle_caption
sigmoid_scale steps t5xxl_max_token_length tag_frequency text_encoder_lr timestep_sampling
total_batch_size training_comment training_finished_at training_shift training_started_at unet_lr v2
v_pred_like_loss vae_hash vae_name validate_every_n_epochs validate_every_n_steps validation_seed
weighting_scheme zero_terminal_snr
"""
_MODELSPEC: Final = """
architecture author base_model comment date description encoder_layer hash_sha256 implementation
is_negative_embedding language license merged_from prediction_type preprocessor resolution
sai_model_spec tags thumbnail time_of_training timestep_range title trigger_phrase usage_hint version
"""
_OTHER: Final = """
api_key author base_model comment dtype instance_prompt license lora_adapter_metadata name ot_branch
ot_config ot_revision prompt quantization sd.artifact.v1 software sshs_cp0 sshs_cp1 sshs_cp2 sshs_cp3
sshs_legacy_hash sshs_model_hash ssmd_author ssmd_cover_images ssmd_description ssmd_display_name
ssmd_keywords ssmd_rating ssmd_source ssmd_tags ssmd_version text_encoder title trained_words
training_info trigger_words unet version workflow
"""
_KNOWN: Final = (
    KEPT_KEYS
    | PROVENANCE_KEYS
    | {f"ss_{name}" for name in _KOHYA.split()}
    | {f"modelspec.{name}" for name in _MODELSPEC.split()}
    | set(_OTHER.split())
)


def is_known_key(key: str) -> bool:
    """Tell whether programs write `key`, so that it may be shown."""
    return key in _KNOWN
