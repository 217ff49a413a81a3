"""What the models are worth: scores, baselines, late fusion, the report and the model card."""
