"""Evaluate talking videos: what to compare with what, read it, measure it, sum it up."""
