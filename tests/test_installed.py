"""Versions of packages."""

import numpy as np

from certvae.installed import version


def test_the_version_of_a_package_is_what_it_says_itself():
    assert version("numpy") == np.__version__


def test_an_absent_package_has_none():
    assert version("no-such-package-of-this-name") == ""
