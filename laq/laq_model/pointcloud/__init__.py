"""Point maps to clouds, cells, patches and the tokens of a pair."""
