"""The synthetic pictures: like ImageNet's for the machine, and the same each time."""

import cv2
import numpy as np

from pipeline.data.preparation import fake_imagenet


def test_fake_imagenet_has_real_jpegs_of_the_usual_size_in_all_classes():
    train, validation = fake_imagenet.fake_imagenet_splits(2000, 1000)
    assert (len(set(train.labels)), len(set(validation.labels))) == (1000, 1000)
    pictures = [train.read(index) for index in (0, 1, 1000)]
    assert len(set(pictures)) == 3
    assert train.read(0) == pictures[0] != validation.read(0)
    assert 80_000 < np.mean([len(picture) for picture in pictures]) < 130_000
    decoded = [cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR) for picture in pictures]
    assert {picture.shape for picture in decoded} == {(375, 500, 3)}
