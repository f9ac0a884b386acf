"""Cameras, unprojection, normals, and what a camera sees of a cell of the world."""
