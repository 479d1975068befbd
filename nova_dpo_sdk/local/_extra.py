"""What the rehearsal cloud needs besides the package itself: the extra `local`."""

from __future__ import annotations

from importlib.util import find_spec

from nova_dpo_sdk.errors import ConfigurationError

_NEEDED = ("moto", "werkzeug", "cryptography")


def require_local() -> None:
    """Make sure that the extra `local` is installed.

    Raises:
        ConfigurationError: It is not; says how to install it.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"The rehearsal cloud needs {' and '.join(missing)}. Install it: pip install 'nova-dpo-sdk[local]'"
        )
