"""The folder `analysis` of a checkout under the name that the wheel gives it, so that one import serves both.

A folder of that name in the user's own project is never taken for it.
"""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[1] / "analysis")]
