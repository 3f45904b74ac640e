"""Everything that is trained: the embedded models, LoRAs of synthetic people, matrix encoders."""
