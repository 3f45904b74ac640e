"""The safetensors file, read byte by byte before anything else believes it."""
