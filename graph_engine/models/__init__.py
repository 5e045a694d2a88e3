"""What a model is, without knowing any: specs, families, loading, conversion."""
