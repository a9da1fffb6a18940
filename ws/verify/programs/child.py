"""Work that may hang or end its process (gRPC, Ray), done in a child process: its events come in any case.

One of the modules that `ws.verify.programs.text` puts in front of a program, as `common` is.
"""

import contextlib
import json
import os
import select
import signal
import time

from common import brief

STEP, CUT = "step", "cut"


def step(name):
    """What work says before each of its steps."""
    return {"event": STEP, "step": name}


def supervised(work, limits):
    """The events of `work(say)`, run in a child process that is ended where a step of it takes longer than `limits[step]`.

    Where it ends within a step, by that or by itself, the last event is {"event": "cut", "step", "why", "seconds"}.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _run(work, writing)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        yield from _follow(pipe, child, limits)


def _run(work, writing):
    """Never returns. What libraries print goes to the pipe, too: it may tell why the process ended."""
    os.setpgid(0, 0)
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    code = 1
    try:
        work(lambda event: os.write(1, (json.dumps(event) + "\n").encode()))
        code = 0
    except BaseException as error:
        os.write(2, f"{brief(error)}\n".encode())
    finally:
        os._exit(code)


def _follow(pipe, child, limits):
    name, began, noise, why, rest = "", time.monotonic(), "", "", b""
    while True:
        left = began + limits[name] - time.monotonic() if name else 60.0
        if not select.select([pipe], [], [], max(0.0, left))[0]:
            why = f"no answer within {limits.get(name, 60.0):g} s"
            break
        part = pipe.read(65536)
        if not part:
            break
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            event = _event(line)
            if event is None:
                noise = line.decode("utf-8", "replace").strip() or noise
            elif event["event"] == STEP:
                name, began = event["step"], time.monotonic()
            else:
                yield event
    code = _end(child)
    if not why and code != 0:
        why = noise or f"its process ended ({'signal' if code < 0 else 'exit code'} {abs(code)})"
    if why:
        yield {"event": CUT, "step": name, "why": why[:400], "seconds": round(time.monotonic() - began, 3)}


def _event(line):
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _end(child):
    """Its exit code, negative for a signal, once it and what it started have ended."""
    ended, status = 0, 0
    for _ in range(20):  # one that has closed its output ends by itself in a moment
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.01)
    for end in (os.killpg, os.kill):
        with contextlib.suppress(OSError):  # gone, or not yet the leader of its group
            if end is os.killpg or not ended:
                end(child, signal.SIGKILL)
    if not ended:
        _, status = os.waitpid(child, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
