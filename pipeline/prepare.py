"""Prepares a dataset for training, once. Training itself downloads nothing, and prepares only the digits.

python -m pipeline.prepare --dataset digits
python -m pipeline.prepare --dataset imagenet2012 --manual_dir FOLDER     (ILSVRC2012_img_train.tar and _val.tar)
python -m pipeline.prepare --dataset fake_imagenet --examples 10000       (synthetic images, to try a pod)
python -m pipeline.prepare --image_folder FOLDER --name my_images       (FOLDER/<split>/<class>/<image>)
python -m pipeline.prepare --convert FOLDER                               (a tfds dataset of TFRecords)

The result is a tfds dataset of ArrayRecord shards. JPEGs gain an MCU index: identical pixels, but training decodes only the
crop. An interrupted preparation continues when the command is given again.
"""

from absl import flags

from pipeline import command
from pipeline.errors import ConfigError
from pipeline.host.announcing import announce

_DATASET = flags.DEFINE_string("dataset", None, "digits, fake_imagenet, or any dataset of the tfds catalogue.")
_MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder of archives that tfds cannot download, as of ImageNet.")
_EXAMPLES = flags.DEFINE_integer("examples", 10_000, "With fake_imagenet: images for training.")
_IMAGE_FOLDER = flags.DEFINE_string("image_folder", None, "A folder of images, FOLDER/<split>/<class>/<image>.")
_NAME = flags.DEFINE_string("name", None, "With --image_folder: what the dataset is to be called.")
_CONVERT = flags.DEFINE_string(
    "convert", None, "The folder of a tfds dataset of TFRecords, with its dataset_info.json."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where to write, local or gs://…; unset: $TFDS_DATA_DIR, then ./data."
)


def main() -> None:
    dataset, image_folder, name, folder = _DATASET.value, _IMAGE_FOLDER.value, _NAME.value, _CONVERT.value
    if [bool(dataset), bool(image_folder), bool(folder)].count(True) != 1:
        raise ConfigError("give one of --dataset NAME, --image_folder FOLDER and --convert FOLDER")
    if bool(image_folder) != bool(name):
        raise ConfigError("--image_folder and --name belong together: the images, and what to call them")
    announce("Importing tensorflow_datasets", "5 to 20 seconds")

    from pipeline.data.preparation import datasets

    if image_folder and name:
        directory = datasets.prepare_image_folder(image_folder, name, _DATA_DIR.value)
    elif folder:
        directory = datasets.prepare_conversion(folder, _DATA_DIR.value)
    elif dataset == "digits":
        directory = datasets.prepare_digits(_DATA_DIR.value)
    elif dataset == "fake_imagenet":
        directory = datasets.prepare_fake_imagenet(_EXAMPLES.value, _DATA_DIR.value)
    else:
        assert dataset
        directory = datasets.prepare_tfds(dataset, _DATA_DIR.value, _MANUAL_DIR.value)
    print(f"Prepared {directory}")


if __name__ == "__main__":
    command.run(main)
