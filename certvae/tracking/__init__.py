"""The MLflow view of a store: it may be deleted, and is made anew by one call."""
