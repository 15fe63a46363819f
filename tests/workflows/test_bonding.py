"""Bonding tasks through a store: computed once, curves apart, documents by study."""

from pathlib import Path

import pytest
from jobflow import Flow

from lrlo.analysis.bonding_documents import BondingDocument, BondingResult, EnergyWindow
from lrlo.structures.layered_oxide import PristineModel, build_pristine
from lrlo.structures.oxygen_environment import OxygenClass
from lrlo.workflows.backend import BackendError
from lrlo.workflows.barriers import HopContext
from lrlo.workflows.bonding import (
    BondingMaker,
    BondingSourceSpec,
    load_source,
    record_bonding,
    versioned_source,
)
from lrlo.workflows.local_run import run_flow
from lrlo.workflows.store import open_store

from ..analysis.documents import CONTEXT
from .test_task import Listener


@pytest.fixture(scope="module")
def cell() -> PristineModel:
    return build_pristine("Li2MnO3", min_atoms=12, max_atoms=12)


def flow_of(cell: PristineModel, maker: BondingMaker) -> Flow:
    structure = cell.occupation.to_structure()
    magmoms = [3.0 if site.specie.symbol == "Mn" else 0.0 for site in structure]
    bonding = maker.make(structure, cell.occupation.frame, magmoms)
    where = HopContext(context=CONTEXT, state="pristine", order=0, voltage=None)
    return Flow([bonding, record_bonding(bonding.output, where)])


def test_bonding_is_computed_once_and_recorded(cell: PristineModel, tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite")
    report = run_flow(flow_of(cell, BondingMaker()), store, tmp_path, Listener())
    assert report.failures == []
    (stored,) = store.query({"output.kind": "bonding"}, load=True)
    document = BondingDocument.model_validate(stored["output"])
    assert document.state == "pristine"
    assert document.level_of_theory.model == "GFN1-xTB"
    assert document.li_content == pytest.approx(4 / CONTEXT.n_formula_units)
    result = document.result
    assert result.frame == cell.occupation.frame
    assert result.sum_rules.violations == []
    assert result.marks == []
    assert result.of_class(OxygenClass.O4).n_oxygen == 6
    assert result.of_class(OxygenClass.O5).window_weight is None
    assert result.curves is not None
    assert len(result.curves.energies) == len(result.curves.o2p[OxygenClass.O4])
    (light,) = store.query({"output.kind": "bonding"})
    assert BondingDocument.model_validate(light["output"]).result.curves is None

    again = run_flow(flow_of(cell, BondingMaker()), store, tmp_path, Listener())
    assert (again.n_computed, again.n_stored) == (0, 1)
    wider = BondingMaker(window=EnergyWindow(low=-3))
    other = run_flow(flow_of(cell, wider), store, tmp_path, Listener())
    assert other.n_computed == 1
    weights = [
        BondingResult.model_validate(d["output"]).oxygens[0].window_weight
        for d in store.query({"output.kind": "bonding_result"})
    ]
    assert max(weights) > min(weights)


def test_failure_is_reported_and_nothing_is_stored(cell: PristineModel, tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite")
    hopeless = BondingSourceSpec(settings={"ladder": [{"max_iterations": 2}]})
    report = run_flow(flow_of(cell, BondingMaker(source=hopeless)), store, tmp_path, Listener())
    (failure,) = report.failures
    assert failure.message.startswith("ScfError: GFN1-xTB did not converge")
    assert "2 iterations, the last 1 " in failure.message
    assert report.n_left_out == 1
    assert store.count({"output.kind": "bonding_result"}) == 0


def test_sources_by_name() -> None:
    assert "GFN1-xTB" in versioned_source(BondingSourceSpec()).version
    with pytest.raises(BackendError, match=r"'lobster'; allowed: tight_binding, gpaw, vasp"):
        load_source(BondingSourceSpec(name="lobster"))
    with pytest.raises(BackendError, match=r"bonding vasp: .*settings\.encut: .*cutoff"):
        load_source(BondingSourceSpec(name="vasp", settings={"encut": 520}))
    with pytest.raises(BackendError, match="max_second"):
        load_source(BondingSourceSpec(settings={"max_second": 3}))
    with pytest.raises(BackendError, match=r"ladder\.0\.temperature"):
        load_source(BondingSourceSpec(settings={"ladder": [{"temperature": -1}]}))
