"""Defines what a search maximises, and under which constraint.

    score        mean, worst, or mean - standard error of the margins of `mode`, nats
    constraint   violation in dB, <= 0 is feasible: floor minus mean PSNR, or mean drop below the reference minus limit

Of kind max_kl it is the largest alpha_kl that a code survives, asked by whoever wants a compressive one:

    score        alpha_kl of the config
    constraint   minus the least bound of any seed, nats, of the head and of a head on draws: in every seed the head is
                 certified and the channel alive, in the words that its row shows
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt

from certvae.canonical import TYPE, fields_of
from certvae.spec.validation import refuse, spec

RULE = "search"
"""Kind of the document by which a store fixes how a study is searched: its goal and its seeds among others."""
BEST = "best.json"
"""Name of the file of its winner, among the views of a search."""
Score = Literal["mean", "worst", "mean-se"]
Constraint = Literal["psnr_drop", "psnr_floor", "channel"]
Kind = Literal["margin", "max_kl"]
BY_MEANS = 0.5
"""The certainty at which noise does not enter."""


def proposed_kind(study: str) -> str:
    """Kind of the documents on the configs that a search proposed, by their numbers: config, params and more."""
    return f"proposals-{study}"


def ended_kind(study: str) -> str:
    """Kind of the documents on cells of a study that a search ended early: cell -> config, reason."""
    return f"censored-{study}"


@spec
class Goal:
    """Maximise a margin subject to reconstruction, trade one against the other, or ask how much KL a code survives."""

    mode: str = "full"
    """The mode whose margin counts."""
    reference: str = "no_align"
    """The paired mode whose PSNR is the yardstick."""
    score: Score = "mean"
    """How the margins of the search seeds become one number."""
    psnr_drop: Annotated[float, Ge(0)] | None = 1.5
    """Largest mean PSNR loss against the reference of the same config, dB; none when absent. A weight that blurs both,
    such as alpha_kl, is not held back by it: give a floor too."""
    psnr_floor: float | None = None
    """Smallest mean PSNR, dB; none when absent."""
    pareto: bool = False
    """Two objectives, margin and PSNR, instead of one."""
    certainty: Annotated[float, Ge(0.5), Lt(1)] = 0.9
    """Smallest probability, given the noise of seeds, that a winner keeps its constraints; 0.5 asks for means alone."""
    pooled: bool = True
    """Judge whether a config keeps its constraints by what all configs say of it, and not by its own seeds alone."""
    kind: Kind = "margin"
    """max_kl maximises alpha_kl instead: the largest at which, in every seed, the channel is alive and the head
    certified. It knows no bound on PSNR."""

    def identity(self) -> dict[str, Any]:
        """The fields that its digest is made of; `kind` leaves no trace in a goal about a margin."""
        return {name: value for name, value in fields_of(self, later=()).items() if (name, value) != ("kind", "margin")}

    def __post_init__(self) -> None:
        bounds = (self.psnr_drop, self.psnr_floor, self.pareto or None)
        if self.kind == "max_kl" and bounds != (None, None, None):
            remedy = "add --goal.psnr-drop None, and leave psnr_floor and pareto away"
            raise refuse("Goal.kind", "margin where reconstruction is bounded or traded", self.kind, remedy)
        if self.kind == "margin" and self.psnr_drop is None and self.psnr_floor is None and not self.pareto:
            raise refuse(
                "Goal.psnr_drop",
                "given, or psnr_floor, or pareto",
                None,
                "a margin without a reconstruction constraint is won by a decoder that ignores the image",
            )

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Goal":
        """The goal that a store holds; one without a certainty went by means, and by those of each config alone."""
        given: dict[str, Any] = {"certainty": BY_MEANS, "pooled": False, **body}
        return cls(**{name: value for name, value in given.items() if name != TYPE})

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """Names of the constraints in force: the same for every config of a search."""
        if self.kind == "max_kl":
            return ("channel",)
        named: dict[Constraint, float | None] = {"psnr_drop": self.psnr_drop, "psnr_floor": self.psnr_floor}
        return tuple(name for name, limit in named.items() if limit is not None)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what `Judged.values` holds."""
        if self.kind == "max_kl":
            return (f"alpha_kl of {self.mode}",)
        margin = f"{self.score} margin of {self.mode}, nats"
        return (margin, f"mean PSNR of {self.mode}, dB") if self.pareto else (margin,)

    def __str__(self) -> str:
        bounds = [] if self.psnr_drop is None else [f"at most {self.psnr_drop:g} dB below {self.reference}"]
        bounds += [] if self.psnr_floor is None else [f"at least {self.psnr_floor:g} dB"]
        if self.kind == "max_kl":
            return f"{self.mode}: maximise alpha_kl, its channel alive and its head certified in every seed"
        wanted = " and ".join(self.metrics)
        return f"maximise the {wanted}" + (f"; PSNR {' and '.join(bounds)}, at {self.certainty:.0%}" if bounds else "")

    @property
    def sought(self) -> str:
        """The quantity that the score is a value of."""
        return "alpha_kl" if self.kind == "max_kl" else "margin"

    @property
    def unit(self) -> str:
        """The unit of a config's slack."""
        return "nats" if self.kind == "max_kl" else "dB"

    def words(self, score: float) -> str:
        """A score with its name and unit."""
        return f"alpha_kl {score:.4g}" if self.kind == "max_kl" else f"{self.score} margin {score:+.4f} nats"
