"""`python -m nova_dpo_sdk.cli`, the same as `nova-dpo`."""

from __future__ import annotations

import sys

from nova_dpo_sdk.cli import main

sys.exit(main())
