"""Will alignment wake the network that a mode ended with? One line, before a rescue starts."""

from certvae.data.dataset import Dataset
from certvae.protocols import chain, stages
from certvae.spec.cell import CellSpec
from certvae.spec.validation import refuse
from certvae.store.artifact import Artifact
from certvae.store.store import Store
from certvae.training.response import Response


def of_cell(spec: CellSpec, dataset: Dataset, store: Store, mode: str = "no_align") -> Response:
    """The response of the network that a mode of this cell ended with; what is missing of it is trained first.

    Raises:
        ConfigFault: the cell has no such mode, or its chain ended without a network.
    """
    known = chain.modes(spec)
    if mode not in known:
        raise refuse("mode", f"one of {', '.join(known)}", mode, "ask for a mode of this cell")
    made = chain.train(spec, dataset, store, only=(mode,))
    network = made.modes[mode]
    if not isinstance(network, Artifact):
        raise refuse("mode", "one whose training ended with a network", mode, f"look at why it did not: {network}")
    given = (dataset, spec.model, spec.training, network, made.teacher)
    return Response(**store.call(stages.response, *given).facts)


def main(spec: CellSpec, dataset: Dataset, store: Store, mode: str = "no_align") -> str:
    """The answer of one cell in words."""
    return f"{mode} of seed {spec.seed}, config {spec.config[:12]}: {of_cell(spec, dataset, store, mode).words}"
