"""Many trainings instead of one: searches over params, and models compared under one protocol."""
