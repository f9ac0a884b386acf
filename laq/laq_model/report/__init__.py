"""Results to files on disk: clouds, pictures, curves, one page."""
