"""No test finds, or leaves, a download of this user."""

import pytest


@pytest.fixture(autouse=True)
def own_downloads(tmp_path_factory, monkeypatch):
    """Where pooch keeps its files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("downloads")))
