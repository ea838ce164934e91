"""Makes text of unknown origin safe for a terminal.

Names of tensors and classes come from files that anybody may have written. Terminals obey control characters, and lone
surrogates cannot be encoded, so both are shown as escapes.
"""

import json
from typing import Any, TextIO


def printable(text: str) -> str:
    r"""Returns the text with every unprintable character as its escape, such as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def is_utf8(name: str) -> bool:
    """Returns whether a name from the system is UTF-8; it gives other bytes as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def encodable_json(content: Any, stream: TextIO | None, indent: int | None = None) -> str:
    """Returns JSON for a stream: as it reads best in UTF-8, and with JSON's own escapes in another encoding."""
    in_utf8 = (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"
    return json.dumps(content, indent=indent, ensure_ascii=not in_utf8, allow_nan=False)
