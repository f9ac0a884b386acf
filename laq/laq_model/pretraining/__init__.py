"""Train the small networks that ship inside the package, from nothing, on rendered scenes."""
