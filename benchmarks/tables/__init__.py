"""Tables behind docs and model cards, each from one command, methods compared in one run on equal seeds."""
