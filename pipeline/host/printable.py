"""Makes text of unknown origin safe for a terminal.

Names of tensors and classes come from files that anybody may have written. Terminals obey control characters, and lone
surrogates cannot be encoded, so both are shown as escapes.
"""


def printable(text: str) -> str:
    r"""Returns the text with every unprintable character as its escape, such as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
