"""Style that the figures share: colours and labels."""

from types import MappingProxyType

#: Fill colours by element; safe with the common colour-vision deficiencies (after Okabe and Ito).
ELEMENT_COLOURS = MappingProxyType(
    {
        **{"Li": "#e9ecef", "Mn": "#2c7fb8", "Ni": "#41ab5d", "Co": "#a6cee3"},
        **{"Fe": "#b07a4a", "Ti": "#9ecae1", "Cr": "#5e8f8f", "Ru": "#c7a76c"},
    }
)
OTHER_ELEMENT = "#b8b8b8"
#: Colours of the oxygen classes; O4 purple and O5 yellow as in the literature.
CLASS_COLOURS = MappingProxyType(
    {
        **{"O0": "#4d0000", "O1": "#7a0c0c", "O2": "#9c1c1c"},
        **{"O3": "#e34a33", "O4": "#6a3d9a", "O5": "#f2c500", "O6": "#8c8c8c"},
    }
)
GREY = "#6b7280"


def shown(label: str) -> str:
    """A user's label as matplotlib text: no mathematics, not hidden from legends."""
    hidden = "\u200b" if label.startswith("_") else ""
    return hidden + label.replace("$", r"\$")
