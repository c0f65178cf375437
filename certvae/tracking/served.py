"""What MLflow loads of a bundle: a model from code, so that nothing is pickled. MLflow runs this file by its path."""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from certvae.verifier import opened

BUNDLE = "bundle"


class Bundled(PythonModel):
    """x (n, C, H, W), pixels as the data set holds them -> {mu (n, d), logvar (n, d), logits (n, K)}, float64."""

    def load_context(self, context: PythonModelContext) -> None:
        """Opens the bundle, every byte of it compared with its manifest."""
        self._bundle = opened(Path(context.artifacts[BUNDLE]))

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride] - MLflow declares that it returns nothing
        self,
        context: Any,  # noqa: ARG002
        model_input: np.ndarray,
        params: Any = None,  # noqa: ARG002
    ) -> dict[str, np.ndarray]:
        """Posterior means and log-variances, and the logits of the head on means."""
        return self._bundle.read(model_input)


set_model(Bundled())
