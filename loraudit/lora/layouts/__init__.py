"""Layouts of LoRA files: which trainer's names mean which module of which model."""
