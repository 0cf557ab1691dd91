"""A sampling profiler for a server: `python -m bench.profiling OUT MODULE ARGUMENTS...`

As often as the kernel's clock allows, in processor time, the stack is noted, whatever the event loop is. A tracing profiler
would double the cost of small functions and hide what is dear. `OUT` lists functions and lines by the samples in them;
`OUT.folded` holds whole stacks, for flame graphs. SIGUSR2 begins afresh, so that the start of the server is not in it.
"""

from __future__ import annotations

import atexit
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

INTERVAL_S = 0.001
_SHOWN = 60

Place = tuple[str, str, int]
"""File, function, line."""


class Profile:
    """Samples of the main thread."""

    def __init__(self) -> None:
        self._stacks: Counter[tuple[Place, ...]] = Counter()

    def start(self) -> None:
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR2, lambda *_: self._stacks.clear())
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        stack: list[Place] = []
        while frame is not None:
            stack.append((frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_lineno))
            frame = frame.f_back
        self._stacks[tuple(stack)] += 1

    def write(self, path: Path) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        own: Counter[str] = Counter()
        lines: Counter[str] = Counter()
        whole: Counter[str] = Counter()
        folded: Counter[str] = Counter()
        for stack, count in self._stacks.items():
            names = [f"{_short(file)}:{function}" for file, function, _ in stack]
            own[names[0]] += count
            lines[f"{_short(stack[0][0])}:{stack[0][2]} {stack[0][1]}"] += count
            whole.update(dict.fromkeys(names, count))
            folded[";".join(reversed(names))] += count
        total = sum(own.values()) or 1
        parts = [
            f"{title}\n" + "".join(f"{count / total:7.2%}  {name}\n" for name, count in counter.most_common(_SHOWN))
            for title, counter in (("In the function itself", own), ("With what it calls", whole), ("Lines", lines))
        ]
        path.write_text(f"{total} samples\n\n" + "\n".join(parts))
        path.with_suffix(path.suffix + ".folded").write_text("".join(f"{s} {n}\n" for s, n in folded.most_common()))


def _short(file: str) -> str:
    """The file from its package on."""
    _, found, rest = file.rpartition("site-packages/")
    return rest if found else "/".join(Path(file).parts[-3:])


if __name__ == "__main__":
    profile = Profile()
    out = Path(sys.argv[1])
    sys.argv = sys.argv[2:]
    atexit.register(profile.write, out)
    profile.start()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
