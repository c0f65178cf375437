"""Teachers that read no network of the cell: labels, pixels, features that somebody brought, rows as they are.

They are fixed before any network exists, so a protocol may take one of them in the place of its own.
"""

from certvae.data.dataset import Dataset
from certvae.protocols.steps import Step
from certvae.spec.parts import Data
from certvae.spec.teachers import FeatureGmm, Fixed, Given, Labels, PcaGmm
from certvae.store.artifact import Content
from certvae.store.store import Workbench, stage


def fixed(data: Data, teacher: Fixed, seed: int) -> Step:
    """The step of such a teacher; rows and labels are the same for every seed."""
    match teacher:
        case Labels():
            return Step("teacher", labels_teacher, (data, teacher))
        case PcaGmm():
            return Step("teacher", pca_teacher, (data, teacher, seed))
        case FeatureGmm():
            return Step("teacher", feature_teacher, (data, teacher, seed))
        case Given():
            return Step("teacher", given_teacher, (data, teacher))


@stage(version=2)
def labels_teacher(dataset: Dataset, teacher: Labels, *, bench: Workbench) -> Content:  # noqa: ARG001 - nothing is fitted
    """Smoothed labels; the same for every seed."""
    from certvae.teachers.kinds import label_content

    return label_content(dataset, teacher)


@stage(version=2)
def pca_teacher(dataset: Dataset, teacher: PcaGmm, seed: int, *, bench: Workbench) -> Content:
    """A PCA-GMM search on pixels."""
    from certvae.teachers.kinds import pixel_content

    return pixel_content(dataset, teacher, seed, bench)


@stage(version=1)
def feature_teacher(dataset: Dataset, teacher: FeatureGmm, seed: int, *, bench: Workbench) -> Content:
    """A search on features that somebody brought."""
    from certvae.teachers.brought import feature_content

    return feature_content(dataset, teacher, seed, bench)


@stage(version=1)
def given_teacher(dataset: Dataset, teacher: Given, *, bench: Workbench) -> Content:  # noqa: ARG001 - nothing is fitted
    """Rows of a file; the same for every seed."""
    from certvae.teachers.brought import given_content

    return given_content(dataset, teacher)
