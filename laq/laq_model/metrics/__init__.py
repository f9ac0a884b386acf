"""Pure functions from tensors to figures: code use, prediction against copying, probes."""
