"""The search: the prompt that a LoRA answers to, found from its weights alone."""
