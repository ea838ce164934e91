"""Text for terminals and pipes whose encoding cannot take it."""

import io
import json
import os

import pytest

from pipeline.host.printable import encodable_json, is_utf8


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "iso8859-1", "ascii", None])
def test_json_stays_json_in_every_encoding(encoding):
    content = {"röd → \N{GRINNING FACE}": os.fsdecode(b"caf\xe9")}
    written = io.BytesIO()
    stream = encoding and io.TextIOWrapper(written, encoding=encoding, errors="backslashreplace")
    print(encodable_json(content, stream), file=stream, flush=True)
    if stream:
        assert json.loads(written.getvalue()) == content
        assert (b"r\\u00f6d" in written.getvalue()) == (encoding in ("iso8859-1", "ascii"))


def test_the_name_of_a_file_is_utf8_or_not():
    assert is_utf8("röd")
    assert not is_utf8(os.fsdecode(b"r\xf6d"))
