"""What a network learns from the videos themselves, beside their labels or before them."""
