"""The report job: a trained run and its videos → one page: its training, its figures, what codes mean."""
