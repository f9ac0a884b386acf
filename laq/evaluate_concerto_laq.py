"""Measure a trained run on held-out videos; the same as ``concerto-laq evaluate``."""

import sys

from laq_model.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
