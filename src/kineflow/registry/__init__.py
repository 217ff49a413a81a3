"""The registry: lineage, registering, deciding, promoting, rolling back."""
