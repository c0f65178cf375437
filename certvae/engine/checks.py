"""What a run refuses before anything starts: options of the other kind of run, and cells that cannot be served."""

from certvae import fingerprint
from certvae.data.dataset import Dataset
from certvae.engine.command import Run
from certvae.errors import ConfigFault
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.spec.control import check_every
from certvae.spec.rescue import Rescue
from certvae.spec.teachers import FeatureGmm, Given, Labels


def check_kind(run: Run) -> None:
    """Refuses what only the other kind of run would read: ranges are of a search, values of a plain run.

    Raises:
        ConfigFault: it is among the options.
    """
    if run.search and run.values:
        raise ConfigFault("a search draws its values", "name a range: --range FIELD LOW HIGH", where="--values")
    if run.search and run.only:
        remedy = "leave it away, and say which mode counts: --goal.mode"
        raise ConfigFault("a search trains the modes that its goal reads", remedy, where="--only")
    for option in () if run.search else ("ablate", "race", "early_stop", "every_mode"):
        if getattr(run, option):
            told, remedy = "it is of a search, and none was asked for", "add --search 32, or leave it away"
            raise ConfigFault(told, remedy, where=f"--{option.replace('_', '-')}")
    if run.ranges and not run.search:
        remedy = "add --search 32, or compare what you name: --values FIELD VALUE VALUE"
        raise ConfigFault("a range is of a search, and none was asked for", remedy, where="--range")


def check(spec: CellSpec, dataset: Dataset) -> None:
    """Refuses a cell that its data, or a network of one's own, cannot serve, before anything starts.

    Raises:
        ConfigFault: more components than rows to fit them on, a controller that decides less than once an epoch, a
            network of one's own that breaks a law, or another K than the labels have.
        DataFault: labels are the teacher, and there are none.
    """
    rows, classes = len(dataset.rows("train")), spec.protocol.teacher.classes
    if isinstance(spec.protocol, Rescue) and spec.protocol.controller is not None:
        check_every(spec.protocol.controller, rows // min(spec.training.batch_size, rows))
    if rows < classes:
        raise ConfigFault(
            f"classes must be at most the {rows} rows a teacher is fitted on, got {classes}",
            "raise --limit, bring more images, or lower --teacher.classes",
            where="teacher.classes",
            cause=f"{dataset.name} gives {rows} train rows",
        )
    teacher = spec.protocol.teacher
    if isinstance(teacher, Labels) and teacher.classes != dataset.classes:
        from certvae.teachers.kinds import check_classes  # noqa: PLC0415  (torch: a second that a plan need not wait)

        check_classes(dataset, teacher)
    if isinstance(teacher, FeatureGmm | Given):
        from certvae.teachers.brought import check_teacher  # noqa: PLC0415  (the same)

        check_teacher(dataset, teacher)
    if spec.model.network is not None:
        from certvae.models.laws import check_network  # noqa: PLC0415  (the same)

        check_network(spec.model, dataset.shape, classes)


def check_device(spec: CellSpec, address: str | None) -> None:
    """Refuses a precision that this machine's device does not have; workers of a cluster look at their own.

    Raises:
        ConfigFault: it does.
    """
    asked = [schedule for schedule in chain.schedules(spec).values() if schedule.precision != "fp32"]
    if address is not None or not asked:
        return
    from certvae.training.precision import check_precision  # noqa: PLC0415  (torch: a second for these alone)

    for schedule in asked:
        check_precision(schedule.precision, fingerprint.device())
