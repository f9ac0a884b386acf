"""Training: what a run is, where its pairs come from, one step, and the loop around it."""
