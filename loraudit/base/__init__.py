"""A diffusion model that can be run, with or without LoRAs beside it."""
