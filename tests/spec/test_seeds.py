"""Seeds of a run: whole numbers, each named once."""

import pytest

from certvae.errors import ConfigFault
from certvae.spec.validation import check_seeds


@pytest.mark.parametrize("seeds", [(), (0, 0, 1), (-1,), (2**32,), (1.5,), ("3",), (True,)])
def test_refused(seeds):
    with pytest.raises(ConfigFault, match="seeds must be"):
        check_seeds(seeds)


@pytest.mark.parametrize("seeds", [(0,), (2, 0, 1), (2**32 - 1,)])
def test_kept_in_their_order(seeds):
    assert check_seeds(seeds) == seeds
