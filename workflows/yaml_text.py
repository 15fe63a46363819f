"""YAML that users write: plain data only, and every key once."""

from collections.abc import Hashable
from typing import Any

import yaml


class _OnceLoader(yaml.SafeLoader):
    """Loader of plain data that refuses a key given twice, of which YAML keeps only the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Mapping of a node; its keys are compared before those of merged mappings come in."""
        if isinstance(node, yaml.MappingNode):
            self._refuse_repeated(node)
        return super().construct_mapping(node, deep=deep)

    def _refuse_repeated(self, node: yaml.MappingNode) -> None:
        lines: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, Hashable):  # refused by the base class
                continue
            if key in lines:
                raise yaml.YAMLError(
                    f"the key {key!r} is given twice, in line {lines[key]} and in line {line}"
                )
            lines[key] = line


def parse_yaml(text: str) -> Any:
    r"""Plain data of a YAML text; no tag makes objects of it.

    Parameters
    ----------
    text
        One YAML document.

    Raises
    ------
    yaml.YAMLError
        If it is not YAML, or a mapping has a key twice; the message names the key and the lines.

    Examples
    --------
    >>> parse_yaml("a: 1\nb: [2, 3]")
    {'a': 1, 'b': [2, 3]}
    """
    try:
        return yaml.load(text, Loader=_OnceLoader)
    except yaml.YAMLError:
        raise
    except ValueError as error:  # a value that looks like a date and is none
        raise yaml.YAMLError(str(error)) from error
