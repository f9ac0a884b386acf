"""Continuous action vectors → rows of a codebook: one scheme a file, all behind one protocol."""
