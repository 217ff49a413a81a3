"""Release models: what they are made of, and how they label videos."""
