"""Any override reaches every worker's trainer byte for byte: through the shell here, gcloud, ssh and the shell there."""

import random
import string

RUN = ("--config", "configs/quickstart.py", "--name", "t", "--type", "v3-32", "--yes")
METACHARACTERS = " \t\n'\"`$\\!*?[]{}()<>|&;#~=,%^@:éß漢\u2028"


def test_every_metacharacter_and_random_mixtures_arrive_unchanged(cloud):
    """The values go to a key that takes text, so the launcher's own look at the configuration accepts them."""
    chooser = random.Random(0)
    values = [character for character in METACHARACTERS]
    values += [
        "",
        " ",
        "  two  spaces  ",
        "-n",
        "--",
        "\\n",
        "$(touch /nowhere)",
        "a'b'c",
        "~/x",
        "!!",
        "\n\n",
        "end\n",
    ]
    alphabet = METACHARACTERS + string.ascii_letters + string.digits
    values += ["".join(chooser.choices(alphabet, k=chooser.randrange(1, 30))) for _ in range(40)]
    overrides = [f"--config.data.name={value}" for value in values]
    status, output = cloud.run(*RUN, "--", *overrides)
    assert status == 0, output
    for worker in range(4):
        assert cloud.starts(worker)[0]["argv"][3:] == overrides


def test_a_restart_and_resume_pass_them_on(cloud):
    override = "--config.data.name=(a, 'b c')\n$HOME"
    cloud.plan({"status": 75}, {"status": 78}, {})
    assert cloud.run(*RUN, "--", override)[0] == 78
    assert cloud.run("resume", "--name", "t", "--yes")[0] == 0
    assert [start["argv"][3:] for start in cloud.starts(3)] == [[override]] * 3
