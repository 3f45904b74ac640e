"""Recipes of the bundled models: how each was made and measured. Run from the root of the repository."""
