"""Synthetic people, things, crowds and styles, their captions, and photographs of people in folders."""
