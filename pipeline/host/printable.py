"""Text of unknown origin, made fit for a terminal.

Names of tensors and classes come from files that anybody can have written. A terminal obeys control characters, and a lone
surrogate cannot be encoded at all: both are shown as their escapes.
"""


def printable(text: str) -> str:
    r"""Returns the text with every character that does not print as its escape, such as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
