"""What `train` and `distill` share: folds and release model of a stream, from params to jobs to outs."""
