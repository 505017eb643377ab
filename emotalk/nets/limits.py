"""Bounds of an edit that both the networks and the makers of training data keep."""

MAX_GAIN = 0.6  # creases darken or brighten the skin by at most this share
