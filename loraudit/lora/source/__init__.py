"""Source of a LoRA: a file, a folder or the Hub."""
