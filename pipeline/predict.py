"""Names what is on pictures.

python -m pipeline.predict --weights DIRECTORY PICTURE … [--top 5] [--json]

Pictures are prepared as the weights say: size, crop, resize and normalisation come with them.
"""

import json

from absl import flags

from pipeline import command
from pipeline.errors import ConfigError
from pipeline.weights import command_line

_TOP = flags.DEFINE_integer("top", 5, "How many classes to name for each picture.", lower_bound=1)
_JSON = flags.DEFINE_boolean("json", False, "Print one line of JSON for each picture instead of a table.")


def main(paths: list[str]) -> None:
    from pipeline.weights import photographs, prediction

    if not paths:
        raise ConfigError("name one or several picture files")
    pictures = photographs.read_pictures(paths)
    weights = command_line.open_weights()
    for picture in prediction.predict(weights, pictures, paths, top=_TOP.value):
        print(json.dumps(picture.to_json(), ensure_ascii=False) if _JSON.value else picture.as_table(), flush=True)


if __name__ == "__main__":
    command.run(main, takes_paths=True)
