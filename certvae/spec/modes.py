"""The modes of all protocols, one row each: their order in tables, what is compared with what, and the printed signs.

    rescue, guarded, live, control, witness, escape, baseline, variant    the family: what kind of network it is

To add a mode, add its row: tables, pictures, paired differences and searches follow. A mode without a row is shown
after those that have one, in alphabetical order, and has no expected sign.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Family = Literal["rescue", "guarded", "live", "control", "witness", "escape", "baseline", "variant"]
Sign = Literal["+", "-"]


@dataclass(frozen=True)
class Mode:
    """What is known of a mode before it is trained."""

    name: str
    family: Family
    """rescue and baseline: arXiv 2605.05813; live: under a teacher that drifts; witness and escape: 2605.18224.

    control: what a claim stands beside; guarded: its weights are set by a controller; variant: any VAE,
    aligned or one that the paper has no row of. No paper prints one of these."""
    sign: Sign | None = None
    """Of the margin, as the papers print it; None where they print none."""
    against: tuple[str, ...] = ()
    """Modes of the same teacher that it is compared with, pair by pair."""
    continues: str | None = None
    """The mode at whose end it begins."""
    reference: str | None = None
    """The mode whose PSNR is the yardstick where a search maximises its margin; None where none does."""
    priority: int = 0
    """Of modes that as many configs have, a search is about the one where this is largest."""
    twin: str | None = None
    """The same mode under a frozen teacher."""
    look: int | None = None
    """Which of the four fixed looks it is drawn with; free where absent."""


BASELINES = ("vanilla", "beta_vae_low", "beta_vae_high", "kl_annealing", "free_bits", "gmvae", "vq_vae")
MODES = (
    Mode("full", "rescue", "+", against=("no_align", "head_only"), reference="no_align", priority=1, look=0),
    Mode("no_align", "rescue", "-", look=1),
    Mode("rescue", "rescue", "+", against=("full", "full_long"), continues="no_align", reference="no_align", look=2),
    Mode("protected_rescue", "rescue", "+", against=("rescue",), continues="no_align", reference="no_align"),
    Mode("guarded_full", "guarded", against=("full",), reference="no_align"),
    Mode("guarded_rescue", "guarded", against=("rescue",), continues="no_align", reference="no_align"),
    Mode("triad_full", "variant", against=("full",)),
    Mode("triad_no_align", "variant"),
    Mode("curriculum_full", "variant", against=("full",)),
    Mode("live_full", "live", "+", ("live_no_align",), reference="live_no_align", priority=1, twin="full"),
    Mode("live_no_align", "live", "-", twin="no_align"),
    Mode("live_rescue", "live", "+", ("live_full",), "live_no_align", reference="live_no_align", twin="rescue"),
    Mode("head_only", "control", against=("no_align",)),
    Mode("full_long", "control"),
    Mode("permuted", "control", "-"),
    Mode("untrained", "control", "-"),
    Mode("vae", "witness", "-", look=1),
    Mode("rst", "witness", "+", against=("vae",), reference="vae", look=0),
    Mode("rst_prefit", "witness", "+", against=("rst",), reference="vae", priority=1, look=2),
    Mode("rst_alpha_prefit", "witness", "+", against=("rst",), reference="vae", priority=2, look=3),
    *(Mode(f"escape_{start}", "escape", "+") for start in ("collapsed", "vae", "prefit")),
    *(Mode(name, "baseline", "-") for name in BASELINES),
    Mode("info_vae", "variant"),
    *(Mode(f"aligned_{name}", "variant", against=(name,)) for name in (*BASELINES, "info_vae")),
)
BY_NAME = {mode.name: mode for mode in MODES}
ORDER = tuple(BY_NAME)


def named(*families: Family) -> tuple[str, ...]:
    """The names of all modes of some families."""
    return tuple(mode.name for mode in MODES if mode.family in families)


def ordered(modes: Iterable[str]) -> list[str]:
    """The distinct modes in the papers' order, unknown ones after them."""
    return sorted(set(modes), key=rank)


def rank(mode: str) -> tuple[int, str]:
    """A sort key for one mode."""
    return (ORDER.index(mode), "") if mode in BY_NAME else (len(ORDER), mode)


def expected_sign(mode: str) -> Sign | None:
    """`+` where the papers print a positive margin, `-` where a negative one, None for a mode of neither paper."""
    return BY_NAME[mode].sign if mode in BY_NAME else None


def contrasts(modes: Iterable[str]) -> list[tuple[str, str]]:
    """(mode, what it is compared with) for the comparisons whose two modes are both there."""
    present = set(modes)
    pairs = ((mode.name, other) for mode in MODES for other in mode.against)
    return [pair for pair in pairs if present.issuperset(pair)]


def searched(trained: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The mode that a search is about, and its reference: the pair that most configs have.

    A search may train no other mode; what confirms its winner has them all.

    Args:
        trained: (config, mode) of each row.
    """
    configs: dict[str, set[str]] = {}
    for config, mode in trained:
        configs.setdefault(mode, set()).add(config)

    def support(mode: Mode) -> tuple[int, int]:
        return len(configs.get(mode.name, set()) & configs.get(mode.reference or "", set())), mode.priority

    best = max((mode for mode in MODES if mode.reference), key=support)
    return (best.name, best.reference) if best.reference and support(best)[0] else None
