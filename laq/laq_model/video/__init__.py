"""Video files to frames, and which two frames make a pair."""
