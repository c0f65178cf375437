"""Names of modes: their order in tables, what is compared with what, and the sign that the papers print.

    full, no_align, rescue, protected_rescue    arXiv 2605.05813; live_*: the same under a teacher that drifts
    vae, rst, rst_prefit, rst_alpha_prefit      arXiv 2605.18224; escape_*: its trajectories out of a low margin
    the others                                  baselines of arXiv 2605.05813

A mode that is not listed here is shown after those that are, in alphabetical order, and has no expected sign.
"""

from collections.abc import Iterable

LIVE = ("live_full", "live_no_align", "live_rescue")
BASELINES = ("vanilla", "beta_vae_low", "beta_vae_high", "kl_annealing", "free_bits", "gmvae", "vq_vae")
ESCAPES = ("escape_collapsed", "escape_vae", "escape_prefit")
ORDER = (
    *("full", "no_align", "rescue", "protected_rescue", *LIVE),
    *("head_only", "full_long", "permuted", "untrained"),
    *("vae", "rst", "rst_prefit", "rst_alpha_prefit", *ESCAPES),
    *BASELINES,
)
UNALIGNED = ("no_align", "live_no_align", "permuted", "untrained", "vae", *BASELINES)
CONTINUES = {"rescue": "no_align", "protected_rescue": "no_align", "live_rescue": "live_no_align"}
"""Modes that start where another one ended."""
CONTRASTS = (
    ("full", "no_align"),
    ("full", "head_only"),
    ("head_only", "no_align"),
    ("rescue", "full"),
    ("rescue", "full_long"),
    ("protected_rescue", "rescue"),
    ("live_full", "live_no_align"),
    ("live_rescue", "live_full"),
    ("rst", "vae"),
    ("rst_prefit", "rst"),
    ("rst_alpha_prefit", "rst"),
)
"""(mode, what it is compared with), paired by teacher."""
SEARCHED = (
    *(("full", "no_align"), ("rescue", "no_align"), ("protected_rescue", "no_align")),
    *(("live_full", "live_no_align"), ("live_rescue", "live_no_align")),
    *(("rst_alpha_prefit", "vae"), ("rst_prefit", "vae"), ("rst", "vae")),
)
"""(mode whose margin a search may maximise, its reference for reconstruction)."""


def ordered(modes: Iterable[str]) -> list[str]:
    """The distinct modes in the papers' order, unknown ones after them."""
    return sorted(set(modes), key=rank)


def rank(mode: str) -> tuple[int, str]:
    """A sort key for one mode."""
    return (ORDER.index(mode), "") if mode in ORDER else (len(ORDER), mode)


def expected_sign(mode: str) -> str | None:
    """`+` where the papers print a positive margin, `-` where a negative one, None for a mode of neither paper."""
    if mode not in ORDER:
        return None
    return "-" if mode in UNALIGNED else "+"


def contrasts(modes: Iterable[str]) -> list[tuple[str, str]]:
    """The comparisons whose two modes are both there."""
    present = set(modes)
    return [pair for pair in CONTRASTS if present.issuperset(pair)]


def searched(trained: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The mode that a search is about, and its reference: the pair that most configs have, the first of a tie.

    A search may train no other mode; what confirms its winner has them all.

    Args:
        trained: (config, mode) of each row.
    """
    configs: dict[str, set[str]] = {}
    for config, mode in trained:
        configs.setdefault(mode, set()).add(config)
    counts = [len(configs.get(mode, set()) & configs.get(reference, set())) for mode, reference in SEARCHED]
    return SEARCHED[counts.index(max(counts))] if any(counts) else None
