"""Training: LoRAs by DreamBooth, zoos of LoRAs, and the encoders that read LoRAs."""
