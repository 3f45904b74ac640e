"""Recipes of the models that ship: how each was made and measured. Run from the root of the repository."""
