"""The evaluation job: a trained run and videos with known actions → figures, each beside its controls."""
