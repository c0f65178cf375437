"""Several configs beside each other at the end of a run: means over strict-feasible seeds, and how many seeds hold."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from rich.table import Table

from certvae import answers, quality
from certvae.certificate import CLAIM_SPLIT
from certvae.engine.progress import digits, listing
from certvae.engine.rows import Row
from certvae.terminal import number_of

DESCRIPTIVE = "choices have seen {} rows, so their bounds and words are descriptive and no claim"
HEADINGS = ("seeds", "failed", "margin", "least", "largest", "certified", "alive", "PSNR")


def compared(rows: Sequence[Row], differences: Mapping[str, str]) -> Table:
    """A table with a line per config and mode; seeds with a stress-case teacher are counted in its title alone.

    Args:
        rows: of one split, of all configs.
        differences: {config: what tells it from the others}.
    """
    strict = [row for row, one in zip(rows, quality.statuses(rows), strict=True) if one != "stress-case"]
    apart = len({(row["config"], row["seed"]) for row in rows}) - len({(row["config"], row["seed"]) for row in strict})
    split = rows[0]["split"]
    title = (
        f"{split} rows: means over strict-feasible seeds, and their least and largest margin, nats and dB; certified: "
        "population bound of the head above 0; alive: that of a head on draws"
    )
    title += "" if split == CLAIM_SPLIT else f"; {DESCRIPTIVE.format(split)}"
    title += f"; without {number_of(apart, 'stress-case seed')}" if apart else ""
    whole = ("mode", *HEADINGS)
    table = listing("config", *whole, right=HEADINGS, whole=whole, title=title, padding=(0, 1, 0, 0))
    for config, words in differences.items():
        ours = [row for row in strict if row["config"] == config]
        for place, mode in enumerate(dict.fromkeys(row["mode"] for row in ours)):
            table.add_row("" if place else words, mode, *_line([row for row in ours if row["mode"] == mode]))
        table.add_row()
    return table


def _line(rows: Sequence[Row]) -> list[str]:
    """Of one config and mode: a seed that failed is counted, and in no mean."""
    ok = [row for row in rows if row["outcome"] == "ok" and row["margin"] is not None]
    margins = [row["margin"] for row in ok]
    numbers = (_mean(margins), min(margins), max(margins)) if margins else (None, None, None)
    held = [sum(answers.head(row) == "certified" for row in ok), sum(answers.channel(row) == "alive" for row in ok)]
    psnr = [row["psnr_01"] for row in ok]
    return [
        str(len(rows)),
        str(len(rows) - len(ok)),
        *(digits(one, "+.3f") for one in numbers),
        *(f"{count} of {len(rows)}" for count in held),
        digits(None if None in psnr else _mean(psnr), ".1f"),
    ]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
