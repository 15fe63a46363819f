"""Documents as MongoDB's extended JSON."""

import json
from typing import Any

from bson import json_util
from bson.errors import BSONError


def dumps(value: Any) -> str:
    """Text of a document; dates, numbers that JSON lacks and binary data are kept."""
    try:
        return json.dumps(value, default=json_util.default, allow_nan=False)
    except ValueError:  # NaN, which JSON does not have
        return json_util.dumps(value)


def loads(text: str) -> Any:
    """Document of a text.

    Raises
    ------
    ValueError
        If the text is no JSON.
    """
    hook = json_util.object_hook if '"$' in text else None  # slow, and rarely needed
    try:
        return json.loads(text, object_hook=hook)
    except (BSONError, RecursionError, TypeError, OverflowError) as error:
        raise ValueError(f"no readable JSON ({type(error).__name__})") from None
