"""A student that sees less learns what a teacher sees."""
