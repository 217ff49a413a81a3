"""The gates between stages: rules on tables of facts, checked by Great Expectations (imported here only)."""
