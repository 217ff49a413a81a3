"""The training loop, what it minimises, and how folds of it run in parallel."""
