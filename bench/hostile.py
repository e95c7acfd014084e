"""An environment that does harm by name: what `neighbours` has beside the well-behaved.

Its limits are below the defaults where a default would harm the machine it is measured on:
what is measured is the neighbours, and these must not lack memory for another reason.
"""

from __future__ import annotations

# what a step does, by the name of the function: in words
KINDS = {
    "spin": "busy loop in the step",
    "hang": "step that hangs until its deadline",
    "crash": "crash on each step",
    "fork_spinning": "fork bomb, spinning",
    "fork_sleeping": "fork bomb, asleep",
    "memory": "memory bomb",
    "output": "output without an end",
    "disk": "full disk, again and again",
    "huge": "replies of 60 MB",
    "flood": "flood of replies",
    "malformed": "malformed replies",
    "kill": "kill(-1), again and again",
}
# a gigabyte may be printed, so that the hub has to read it; memory is a sum over four
# processes, of which each may have less
SETTINGS = """
[deadlines]
step_s = 1.0
[limits]
memory_bytes = 201326592
session_memory_bytes = 402653184
output_bytes = 1073741824
"""
SOURCE = '''"""What may be done to neighbours. Each way goes on until it is ended, or again."""

import ctypes
import os
import signal
import struct
import sys
import time

from envhub.wire import messages

FOLDERS = ("/workspace", "/tmp")

class Env:
    def reset(self, seed: int | None = None) -> dict:
        return {}

    def step(self, action: dict) -> dict:
        return globals()[action["do"]]() or {}

def spin():
    while True: pass

def hang():
    time.sleep(3600)

def crash():
    ctypes.string_at(0)

def forks():
    """Yield in each process that can be made; return in the first one."""
    try:
        while True:
            if os.fork() == 0: yield
    except BlockingIOError:
        hang()

def fork_spinning():
    for _ in forks(): spin()

def fork_sleeping():
    for _ in forks(): hang()

def memory():
    for _ in range(3):
        if os.fork() == 0: break
    kept = []
    while True:
        try: kept.append(bytearray(4 << 20))
        except MemoryError: kept.clear()

def write(descriptor, data):
    while data: data = data[os.write(descriptor, data):]

def output():
    while True: write(1, b"x" * (1 << 16))

def disk():
    for folder in FOLDERS:
        try:
            with open(f"{folder}/full", "wb", buffering=0) as file:
                while True: file.write(bytes(1 << 20))
        except OSError:
            os.unlink(f"{folder}/full")

def huge():
    return {"data": "x" * (60 * 1000 * 1000)}

def flood():
    caller = sys._getframe()
    while not hasattr(caller.f_locals.get("request"), "op"): caller = caller.f_back
    op = caller.f_locals["request"].op
    message = messages.encode(messages.Observed(op, b"\\x80"))
    replies = (struct.pack(">I", len(message)) + message) * 1000
    while True: write(3, replies)

def malformed():
    while True: write(3, struct.pack(">I", 1 << 16) + os.urandom(1 << 16))

def kill():
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP) * 1000:
        try: os.kill(-1, number)
        except ProcessLookupError: pass
'''
