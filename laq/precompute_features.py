"""Encode every pair of a folder once, into a feature store; the same as ``concerto-laq precompute``."""

import sys

from laq_model.cli import main

if __name__ == "__main__":
    main(["precompute", *sys.argv[1:]])
