"""All results of one study, as its file says now."""

from dataclasses import dataclass

from .bonding_documents import BondingDocument
from .documents import BarrierDocument, StateDocument
from .filters import DocumentStore
from .query import find_barriers, find_bonding, find_states


@dataclass(frozen=True)
class StudyResults:
    """States, barriers and bonding of a study, each in study order."""

    states: tuple[StateDocument, ...]
    barriers: tuple[BarrierDocument, ...]
    bonding: tuple[BondingDocument, ...]


def find_study_results(store: DocumentStore, study: str, study_key: str) -> StudyResults:
    """Results of one version of a study.

    Parameters
    ----------
    store
        Connected store.
    study, study_key
        Name of the study, and hash of its content.
    """
    return StudyResults(
        states=tuple(find_states(store, study=study, study_key=study_key)),
        barriers=tuple(find_barriers(store, study=study, study_key=study_key)),
        bonding=tuple(find_bonding(store, curves=True, study=study, study_key=study_key)),
    )
