"""Video classifiers, read as `backbone.pooling`, from one registry.

Import what is needed from its own module (`kineflow.models.registry.create_model`), so that a reader of
tables or params never pays for torch.
"""
