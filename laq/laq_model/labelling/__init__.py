"""Labelling: action tokens of every pair, once, in the formats that others read."""
