"""Sets what MLflow's UI shows first of a study: which runs, in what order, with what columns and charts.

The UI reads such a view from a tag of the experiment, the one that its button "Share" writes, and a URL names it.
"""

import json
from typing import Any

from certvae.quality import PAPER_TAUS
from certvae.tracking.projection import PROJECTION, at_tau
from certvae.tracking.runs import NOTE

WRITTEN = "certvae.projection"  # by which projection the runs of an experiment were written
VIEW = "networks"
QUERY = {"workflowType": "machine_learning", "viewStateShareKey": VIEW}
GUIDE = """One run per config, and below it one per network and seed.
The search `tags.kind = 'network'` finds all networks, `tags.mode = 'full'` those of one mode, `tags.kind =
'preparation'` warm-ups; sort by a metric, such as `margin`, to see them without their configs.

- *Sensitivity to tau* in the charts: the margin that is left at every buffer tau, one line per run, in nats.
- `G_0.05`, `G_0.10`, `G_0.20` in the table: the same as numbers, of the split in `split`.
- `words`, `mean`, `channel`: the head is certified at tau 0.10 or not, the mean varies, draws carry information.
- `units`: how many units say something of the teacher, at least. A bundle is among the artifacts of its run.
- `curve/*`: loss terms and guard numbers by epoch. `guard/*` and `certify/*`: numbers of the trained network.

Margins and information are in nats, PSNR in dB. Made from the store; what is changed here is not kept by a rebuild.
"""
METRICS = {"margin": 74, **{at_tau(tau): 70 for tau in PAPER_TAUS}, "population_bound": 80, "psnr_01": 70}
READ = {"words": 92, "channel": 60, "teacher_status": 104, "mode": 80, "seed": 50}
WIDTHS = {f"metrics.`{name}`": width for name, width in METRICS.items()}  # pixels: at 1280 an answer needs no scrolling
WIDTHS |= {f"tags.`{name}`": width for name, width in READ.items()}
COLUMNS = tuple(WIDTHS)


def _section(name: str, columns: int, height: int) -> dict[str, Any]:
    place = {"uuid": name, "name": name, "display": True, "isReordered": True}
    return {**place, "columns": columns, "cardHeight": height}


def _chart(kind: str, title: str, section: str, metric: str, **more: Any) -> dict[str, Any]:
    place = {"uuid": title, "metricSectionId": section, "isGenerated": False, "deleted": False, "displayName": title}
    return {**place, "type": kind, "metricKey": metric, "runsCountToCompare": MOST_RUNS, **more}


TAU, NUMBERS = "Sensitivity to tau", "Numbers"
MOST_RUNS = 20  # in one chart, as many as the list shows with an eye
OVER_TAU = {"xAxisKey": "metric", "selectedXAxisMetricKey": "tau"}
LINEAR = {"useGlobalXaxisKey": False, "lineSmoothness": 0, "scaleType": "linear", "xAxisScaleType": "linear"}
STATE = {
    "searchFilter": "tags.kind = 'network'",
    "orderByKey": "metrics.`margin`",
    "orderByAsc": False,
    "selectedColumns": COLUMNS,
    "columnOrder": COLUMNS,
    "columnWidths": WIDTHS,
    "runsHiddenMode": f"FIRST_{MOST_RUNS}_RUNS",
    "isAccordionReordered": True,  # sections stay as they are listed; MLflow's own follow
    "compareRunSections": [_section(TAU, 1, 420), _section(NUMBERS, 3, 360)],
    "compareRunCharts": [
        _chart("LINE", "margin that is left at tau, nats", TAU, "margin_by_tau", **OVER_TAU, **LINEAR),
        _chart("BAR", "margin, nats", NUMBERS, "margin"),
        _chart("BAR", "bound, nats", NUMBERS, "population_bound"),
        _chart("BAR", "PSNR, dB", NUMBERS, "psnr_01"),
    ],
}
TAGS = {
    WRITTEN: str(PROJECTION),
    "mlflow.experimentKind": "custom_model_development",
    NOTE: GUIDE,
    f"mlflow.sharedViewState.{VIEW}": json.dumps(STATE),
}
