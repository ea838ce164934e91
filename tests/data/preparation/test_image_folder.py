"""Which files of a folder become examples, and which folders are refused."""

import pytest
from making import CLASSES, PNG, picture_folder

from pipeline.data.preparation import image_folder
from pipeline.errors import DataError


def test_pictures_are_known_by_their_content_and_others_left_out_aloud(tmp_path, capsys):
    picture_folder(tmp_path / "pets", each=1)
    (tmp_path / "pets/train/cat/no_suffix").write_bytes(PNG)
    (tmp_path / "pets/train/cat/really_webp.jpg").write_bytes(b"RIFF\x00\x00\x00\x00WEBPVP8 ")
    (tmp_path / "pets/train/dog/notes.jpg").write_text("no picture")
    splits, classes = image_folder.folder_splits(tmp_path / "pets")
    keys = {split.name: list(split.keys) for split in splits}
    assert classes == list(CLASSES)
    assert keys["train"] == ["cat/000.jpg", "cat/no_suffix", "cat/really_webp.jpg", "dog/000.jpg", "owl/000.jpg"]
    assert "left out 1 files that are not pictures" in capsys.readouterr().out


def test_folders_that_cannot_be_a_dataset_are_refused(tmp_path):
    def refused(message: str) -> None:
        with pytest.raises(DataError, match=message):
            image_folder.folder_splits(tmp_path / "pets")

    refused("is not a folder")
    (tmp_path / "pets").mkdir()
    refused("fewer than two classes")
    picture_folder(tmp_path / "pets")
    (tmp_path / "pets/test/bat").mkdir()
    refused(r"classes that 'train' has not: \['bat'\]")
    (tmp_path / "pets/test/bat").rmdir()
    for path in (tmp_path / "pets/train/owl").iterdir():
        path.unlink()
    refused("'owl' has no picture")
    (tmp_path / "pets/train").rename(tmp_path / "pets/training")
    refused("no folder 'train'")
