"""The verdict: evidence to findings, by a written policy."""
