"""Teacher distributions T(x), fixed before training."""
