"""The tables behind the model cards: each from one command, methods compared in one run on the same seeds."""
