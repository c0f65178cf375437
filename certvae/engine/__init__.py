"""Studies on a pool: search, plan, dispatch, run, resume."""

from certvae import cluster as cluster  # Ray's settings come before Ray
