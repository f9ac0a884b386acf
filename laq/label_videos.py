"""Write the action tokens of every pair to Parquet; the same as ``concerto-laq label``."""

import sys

from laq_model.cli import main

if __name__ == "__main__":
    main(["label", *sys.argv[1:]])
