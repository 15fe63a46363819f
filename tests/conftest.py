"""Tiny named crystals shared by the tests."""

import os

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command does, before numpy is loaded
os.environ.setdefault("COLUMNS", "400")  # messages are compared as one line

from lrlo.structures.layered_oxide import PristineModel, build_pristine


@pytest.fixture(scope="session")
def li2mno3() -> PristineModel:
    """Li2MnO3, C2/m honeycomb, 72 atoms, two layers' worth of images apart."""
    return build_pristine("Li2MnO3", min_atoms=72, max_atoms=72, seed=1)


@pytest.fixture(scope="session")
def licoo2() -> PristineModel:
    """Ordered LiCoO2, 72 atoms."""
    return build_pristine("LiCoO2", min_atoms=72, max_atoms=72, seed=1)


@pytest.fixture(scope="session")
def paper() -> PristineModel:
    """Composition of the paper in the cell of the quickstart."""
    return build_pristine("Li1.14Ni0.26Mn0.55Co0.05O2", min_atoms=48, max_atoms=72, seed=7)
