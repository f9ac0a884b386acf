"""Train the latent action model; the same as ``concerto-laq train``."""

import sys

from laq_model.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
