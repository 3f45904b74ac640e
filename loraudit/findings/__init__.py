"""Record of an audit: findings, the report around them, and the properties derived from both.

The record needs the standard library alone, and is all that the formats of a report see.
"""
