"""Measurements behind `loraudit bench`: attacks and verdicts on LoRAs of synthetic people."""
