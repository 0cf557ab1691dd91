"""How fast a configuration replays recorded answers. Pure."""

from __future__ import annotations

from app.config.spec import QuorumSpec
from app.core.errors import InvalidRequest
from app.providers.replay import ReplayOptions


def speed_of(spec: QuorumSpec) -> float:
    """How many times as fast as recorded its answers come; 1 where nothing is replayed, or at once.

    Raises:
        InvalidRequest: its providers differ in that.
    """
    replays = [ReplayOptions.model_validate(one.options) for one in spec.providers.values() if one.kind == "replay"]
    scales = {one.scale for one in replays if one.latency == "recorded" and one.scale > 0}
    if len(scales) > 1:
        told = ", ".join(f"{scale:g}" for scale in sorted(scales))
        raise InvalidRequest(f"the replay providers differ in `scale` ({told}), so no time can be told; give all the same")
    return 1 / scales.pop() if scales else 1.0
