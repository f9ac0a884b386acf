"""One or two frames of a video as point clouds and pictures; the same as ``concerto-laq visualize``."""

import sys

from laq_model.cli import main

if __name__ == "__main__":
    main(["visualize", *sys.argv[1:]])
