"""Bases: diffusion models that can be run, with or without LoRAs beside them."""
