"""Where a LoRA comes from: a file, a folder, the Hub."""
