"""The queue of jobs: what waits, who runs it under which lease, and whose turn it is.

A job is an id, a tenant, and what it takes; what is to be done stands elsewhere, under that id. Every decision is made in one
script (`jobs.lua`): whose turn it is, within the bounds of tenants and providers; that a lease has passed; that a job has cost
too many processes their life. Whoever writes names owner and epoch, and is refused once the job is somebody else's.
"""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from app.core.jobs import Job, JobKind
from app.state.client import StateClient, reaching_state
from app.state.keys import DEAD_JOBS, JOBS

LEASE_S: Final = 15.0
"""An owner that has not been heard of for so long counts as dead."""
ALIVE_S: Final = 15.0
"""The same for a worker, whether it has jobs or not."""
MOST_DEAD: Final = 1_000
"""Jobs that were given up, as they are listed."""
_PRIORITIES: Final = {"high": 0, "normal": 1, "low": 2}


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that is the caller's to do, for as long as it renews its lease.

    `attempts` counts the processes that have had it, `granted` are the runs that it may have at once, `waited_s` how long it
    waited for its first. `why` says that it is not to be run any more, only to be ended with this reason.
    """

    id: str
    tenant: str
    kind: JobKind
    epoch: int
    attempts: int
    granted: int
    waited_s: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many runs at once a tenant and a provider may have in the queue's workers, and how long a job may wait."""

    per_tenant: int
    per_provider: Mapping[str, int]
    max_wait_s: float


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found: jobs taken from dead owners, and how the queue stands. `workers` are processes of their own."""

    again: int
    given_up: int
    waiting: int
    delayed: int
    running: int
    workers: int


class JobQueue:
    """Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._script = state.script("jobs")

    async def _do(self, verb: Literal["put", "claim", "renew", "done", "back", "hurry", "sweep"], *args: Any) -> Any:
        with reaching_state():
            return await self._script(keys=[JOBS], args=[verb, *args])

    async def put(self, job: Job, *, delay_s: float = 0) -> bool:
        """Have a job done. False where one of that id is there already. May be sent again."""
        return bool(
            await self._do(
                "put",
                job.id,
                job.tenant,
                job.kind,
                _PRIORITIES[job.priority],
                job.slots,
                job.weight,
                ",".join(job.providers),
                int(delay_s * 1000),
            )
        )

    async def claim(self, owner: str, free: int, bounds: Bounds, *, yields: bool = False) -> Claimed | None:
        """The next job for `owner`, who has room for `free` runs. `yields`: none while there are workers."""
        most = [part for name, bound in bounds.per_provider.items() for part in (name, bound)]
        longest_ms = int(bounds.max_wait_s * 1000)
        lease_ms = int(LEASE_S * 1000)
        found = await self._do("claim", owner, free, lease_ms, int(yields), bounds.per_tenant, longest_ms, *most)
        if not found:
            return None
        job_id, tenant, kind, epoch, attempts, granted, waited_ms, why = found
        named = cast("JobKind", kind.decode())
        return Claimed(job_id.decode(), tenant.decode(), named, epoch, attempts, granted, waited_ms / 1000, why.decode())

    async def renew(self, owner: str, jobs: Sequence[Claimed], *, worker: bool) -> set[str]:
        """Renew the leases of `owner`; the ids of those that it has lost. `worker`: it is there for nothing else."""
        pairs = [part for job in jobs for part in (job.id, job.epoch)]
        lost = await self._do("renew", owner, int(LEASE_S * 1000), int(ALIVE_S * 1000) if worker else "", *pairs)
        return {job_id.decode() for job_id in lost}

    async def leave(self, owner: str) -> None:
        """A worker has ended."""
        with reaching_state():
            await self._state.commands.zrem(f"{JOBS}workers", owner)

    async def done(self, owner: str, job: Claimed) -> bool:
        """A job is over. False where `owner` has lost it."""
        return bool(await self._do("done", job.id, owner, job.epoch))

    async def back(
        self, owner: str, job: Claimed, *, delay_s: float = 0, counts: bool = False, most_faults: int = 0, anew: bool = False
    ) -> bool:
        """Somebody is to do it later.

        Parameters:
            counts: this was an attempt.
            anew: it waits for others, and its age counts from when it is to go on.
            most_faults: it broke, and with so many faults it is given up; 0 where it did not.
        """
        args = [job.id, owner, job.epoch, int(delay_s * 1000), int(counts), most_faults or "", int(anew)]
        return bool(await self._do("back", *args))

    async def hurry(self, job_id: str) -> Literal["hurried", "running", "absent"]:
        """Have a job done now that was to be done later; else say how it stands."""
        return (await self._do("hurry", job_id)).decode()

    async def sweep(self, most_faults: int) -> Swept:
        """Give back the jobs of dead owners, and say how the queue stands."""
        return Swept(*await self._do("sweep", most_faults))

    async def bury(self, tenant: str, letter: bytes) -> None:
        """Keep a dead letter: the JSON of a job that was given up."""
        with reaching_state():
            pipe = self._state.commands.pipeline(transaction=False)
            pipe.lpush(DEAD_JOBS + tenant, letter)
            pipe.ltrim(DEAD_JOBS + tenant, 0, MOST_DEAD - 1)
            await pipe.execute()

    async def buried(self, tenant: str, most: int) -> list[bytes]:
        """The newest dead letters of a tenant."""
        with reaching_state():
            return cast("list[bytes]", await self._state.commands.lrange(DEAD_JOBS + tenant, 0, most - 1))

    async def once(self, name: str, within_s: float) -> bool:
        """Whether the caller is the one of all processes that is to do the job `name` now. Where it does not say `did` within
        `within_s`, it is another's."""
        with reaching_state():
            return bool(await self._state.commands.set(f"{JOBS}scheduled:{name}", "1", nx=True, px=int(within_s * 1000)))

    async def did(self, name: str, next_s: float) -> None:
        """The job `name` is done, and comes again in `next_s`."""
        with reaching_state():
            await self._state.commands.set(f"{JOBS}scheduled:{name}", "1", px=int(next_s * 1000))
