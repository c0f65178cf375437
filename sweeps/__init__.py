"""Studies: one short file each, and the engine that runs them over a pool."""
