"""What scenarios on a site that is made up have in common."""

from __future__ import annotations

import pytest

from ws.verify import diagnose_again


@pytest.fixture(autouse=True)
def second_look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is always a second look; it is not waited for."""
    monkeypatch.setattr(diagnose_again, "PATIENCE", 0.0)
