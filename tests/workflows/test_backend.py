"""What no backend may give."""

import numpy as np
import pytest

from lrlo.workflows.backend import BackendError, check_finite
from lrlo.workflows.evaluation import Evaluation

FORCES, STRESS = np.zeros((2, 3)), np.zeros(6)


def test_numbers_are_accepted() -> None:
    check_finite([Evaluation(-1.0, FORCES, STRESS), Evaluation(-1.0, FORCES)])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Evaluation(np.nan, FORCES), "structure 2 of 2 has energy nan and 0 forces"),
        (Evaluation(-1.0, np.full((2, 3), np.inf)), "energy -1.0 and 6 forces that are not finite"),
        (Evaluation(-1.0, FORCES, np.full(6, np.nan)), "a stress that is not finite"),
    ],
)
def test_what_is_no_number_is_refused(wrong: Evaluation, said: str) -> None:
    with pytest.raises(BackendError, match=said):
        check_finite([Evaluation(-1.0, FORCES, STRESS), wrong])
