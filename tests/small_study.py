"""A study that takes seconds, and what its running task is at."""

from pathlib import Path

import numpy as np

#: Weak Lennard-Jones bonds leave the cell as it was built, so that every stage takes its course in
#: seconds; the numbers mean nothing.
SMALL = """
name: small
composition: Li1.2Ni0.2Mn0.6O2
structure: {min_atoms: 20, max_atoms: 24, seed: 3}
states: [{label: pristine}, {label: charged, li_content: 0.0}]
lithiation: {patterns_per_split: 2, relaxed_per_content: 1}
migration: {n_steps: 1}
hops: {movers: [Mn], classes: [in_plane], per_class: 1, states: [charged]}
relax: {fmax: 0.3, max_steps: 10}
neb: {fmax: 0.001, max_steps: 12, image_spacing: 1.0}
backend:
  calculator: ase.calculators.lj:LennardJones
  kwargs: {sigma: 1.9, epsilon: 0.02, rc: 5.0, smooth: true}
"""


def is_in_a_band(journal: Path) -> bool:
    """Whether a journal has a few evaluations, of many images each."""
    try:
        with journal.open("rb") as file:
            return len(np.load(file)) > 1 and journal.stat().st_size > 8_000
    except (FileNotFoundError, EOFError, ValueError):  # it ended meanwhile, or has just begun
        return False
