"""`python -m app.jobs.training_process`: trains the scopes of the order on standard input; a line of JSON for each comes out.

Training takes a core for seconds: the process that serves starts this one instead, at the lowest priority. The order is the
first line of the input, which stays open: it ends where that process dies, and so does this one, since another one trains then.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import orjson
from pydantic import TypeAdapter

from app.config.learning import LearningConfig
from app.core.models import ModelProfile
from app.jobs.trainer import Trainer
from app.state.client import StateClient

_NICEST = 19


@dataclass(frozen=True, slots=True)
class Model:
    """What the configuration says of a model that priors are made of."""

    name: str
    family: str
    quality: float | None


@dataclass(frozen=True, slots=True)
class Order:
    """What to train, where, and by which settings."""

    redis_url: str
    scopes: tuple[str, ...]
    config: LearningConfig
    models: tuple[Model, ...]

    def packed(self) -> bytes:
        return _ORDER.dump_json(self)

    def profiles(self) -> Mapping[str, ModelProfile]:
        return {one.name: ModelProfile(one.name, "", one.name, family=one.family, quality=one.quality) for one in self.models}


_ORDER: TypeAdapter[Order] = TypeAdapter(Order)


async def obey(order: Order) -> None:
    state = StateClient(order.redis_url)
    try:
        trainer = Trainer(state, order.config, order.profiles())
        for scope in order.scopes:
            report = await trainer.train(scope)
            sys.stdout.buffer.write(orjson.dumps(report.as_json()) + b"\n")
            sys.stdout.buffer.flush()
    finally:
        await state.close()


def _end_with_input() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    os.nice(_NICEST)
    order = _ORDER.validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    asyncio.run(obey(order))
