"""Force fields that atomate2 knows by name, as a backend."""

import numpy as np
import pytest
from ase.build import bulk

from lrlo.workflows.backend import BackendError, BackendSpec, load_backend

pytest.importorskip("atomate2")


def test_chgnet_by_name_is_the_emulator() -> None:
    atoms = bulk("LiO", "rocksalt", a=4.2, cubic=True)
    atoms.rattle(0.05, seed=1)
    by_name = load_backend(BackendSpec(name="ase", calculator="atomate2:CHGNet"))
    theirs = by_name.evaluate([atoms], stress=True)[0]
    ours = load_backend(BackendSpec(name="emulator")).evaluate([atoms], stress=True)[0]
    assert theirs.energy == pytest.approx(ours.energy, abs=1e-4)
    np.testing.assert_allclose(theirs.forces, ours.forces, atol=1e-3)
    assert theirs.stress is not None
    np.testing.assert_allclose(theirs.stress, ours.stress, atol=1e-4)
    assert by_name.level_of_theory.model == "atomate2:CHGNet"
    assert by_name.level_of_theory.version


def test_unknown_names_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(BackendError, match=r"no force field 'Chgnet'; allowed: .*CHGNet.*MACE"):
        load_backend(BackendSpec(name="ase", calculator="atomate2:Chgnet"))


def test_a_force_field_that_is_not_installed_says_so() -> None:
    with pytest.raises(BackendError, match="'DeepMD' needs a package of its own"):
        load_backend(BackendSpec(name="ase", calculator="atomate2:DeepMD"))
