"""Seeds: the unit of replication, so each is named once."""

from certvae.canonical import SEED_LIMIT
from certvae.checked import refuse


def check_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Distinct seeds in [0, 2^32).

    Raises:
        ConfigFault: for none, a duplicate, or one outside.
    """
    if not seeds:
        raise refuse("seeds", "at least one seed", seeds, "give seeds such as 0 1 2")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEED_LIMIT:
            raise refuse("seeds", f"whole numbers in [0, {SEED_LIMIT})", seed, "give seeds such as 0 1 2")
    repeated = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if repeated:
        raise refuse("seeds", "distinct", repeated, "name each seed once: a seed is the unit of replication")
    return tuple(seeds)
