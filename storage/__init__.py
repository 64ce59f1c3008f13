"""Everything that knows MongoDB; above this package nobody does."""
