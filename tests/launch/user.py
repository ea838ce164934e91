"""The user of the loopback services: the token that they have, and the refusals that they read."""

import pytest
from cloud.services import USER_TOKEN
from pod.errors import Refused
from pod.services.credentials import Credentials


class User(Credentials):
    """The user's token."""

    def _fetch(self):
        return USER_TOKEN, None


def refusal(check, *arguments) -> str:
    """Returns the line of a check that must refuse."""
    with pytest.raises(Refused) as refused:
        check(*arguments)
    assert "\n" not in str(refused.value)
    return str(refused.value)
