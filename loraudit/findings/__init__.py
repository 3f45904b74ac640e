"""The record of an audit: findings, the report they are in, and what both say of themselves. Standard library
only; the one thing reports see.
"""
