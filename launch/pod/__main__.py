"""`python3 -m pod`, which launch/tpu_pod.sh starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pod import commands
from pod.errors import FAILED, INTERRUPTED, Refused
from pod.plane.control_plane import ControlError
from pod.services.credentials import CredentialsError
from pod.services.http import ApiError
from pod.starting import arguments
from pod.starting.start import Interrupted


def main() -> int:
    """Runs the command line; an error that a user can fix is one line."""
    try:
        return commands.main(sys.argv[1:], os.environ, Path(os.environ.get("PWD") or os.getcwd()))
    except arguments.HelpAsked:
        print(arguments.USAGE, end="")
        return 0
    except Refused as error:
        print(f"tpu_pod.sh: {error}", file=sys.stderr)
        return error.exit_code
    except (ApiError, ControlError, CredentialsError) as error:
        print(f"tpu_pod.sh: {error}", file=sys.stderr)
        return FAILED
    except (KeyboardInterrupt, Interrupted):
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
