from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.config.tools import ToolsConfig
from app.core.clock import SystemClock
from app.core.tools import ToolCaller
from app.tools.toolbox import Toolbox

ME = ToolCaller(
    "acme",
    frozenset({"run", "tools"}),
    key_id="k1",
    request_id="req_1",
    run_id="run_1",
    traceparent=f"00-{'a' * 32}-{'b' * 16}-01",
)
ALL = {"effect": "allow", "tools": ["*"]}

MakeToolbox = Callable[..., Toolbox]


@pytest.fixture
def toolbox(tmp_path: Path) -> MakeToolbox:
    """Makes a toolbox of a configuration in which everything is allowed, if it does not say otherwise."""

    def made(**config: Any) -> Toolbox:
        return Toolbox(ToolsConfig.model_validate({"permissions": [ALL], **config}), SystemClock(), tmp_path)

    return made
