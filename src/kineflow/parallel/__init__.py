"""A function over many items on every core, and the Ray session that it and training work in."""
