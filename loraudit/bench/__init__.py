"""Measurements behind `loraudit bench`: attacks and verdicts on LoRAs of people who do not exist."""
