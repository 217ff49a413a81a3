"""Networks that turn the frames of a clip into one feature vector for each time step."""
