import errno
import fcntl
import gc
import mmap
import os
import random
import struct
import threading
import time

import gymnasium
import numpy as np
from gymnasium import spaces


class Hostile(gymnasium.Env):
    """Does one thing, in its first step."""

    def __init__(self, act="nothing"):
        self.action_space = spaces.Discrete(2)
        self.observation_space = spaces.Tuple(
            (spaces.Box(-1, 1, (8,), np.float32), spaces.Box(0, 1, (3,), np.bool_))
        )
        self.act = act

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return (np.zeros(8, np.float32), np.zeros(3, np.bool_)), {}

    def step(self, action):
        act, self.act = self.act, "nothing"
        info = getattr(self, act)() or {}
        return (np.ones(8, np.float32), np.ones(3, np.bool_)), 1.0, False, False, info

    def nothing(self):
        pass

    def _memory(self):
        return next(m for m in gc.get_objects() if type(m) is mmap.mmap)

    def scribble(self):
        """All of the memory, all the time."""
        memory = self._memory()

        def write():
            while True:
                memory[:] = random.choice((b"\xff", b"\x00", b"\x7f", b"\x80")) * len(memory)

        threading.Thread(target=write, daemon=True).start()

    def not_a_number(self):
        """Where the rewards are."""
        memory = self._memory()
        memory[4096:] = b"\xff" * (len(memory) - 4096)
        self.answer()

    def shrink(self):
        """The memory under the hub's mapping; and give it holes."""
        said = []
        for number in os.listdir("/proc/self/fd"):
            try:
                if "memfd" not in os.readlink(f"/proc/self/fd/{number}"):
                    continue
                for size in (0, 2**20):
                    try:
                        os.ftruncate(int(number), size)
                        said.append(f"to {size}")
                    except OSError as error:
                        said.append(errno.errorcode[error.errno])
                try:
                    fcntl.fcntl(int(number), fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
                    said.append("sealed")
                except OSError as error:
                    said.append(errno.errorcode[error.errno])
            except OSError:
                pass
        return {"said": " ".join(said)}

    def pretend(self):
        """To have answered, and never do."""
        memory = self._memory()
        while True:
            struct.pack_into("<Q", memory, 64, struct.unpack_from("<Q", memory, 0)[0])

    def babble(self):
        """Bytes that are no message."""
        os.write(3, b"\x00\x00\x00\x05hello")

    def announce(self):
        """A message of four gigabytes."""
        os.write(3, b"\xff\xff\xff\xff")

    def drip(self):
        """A message that never ends."""
        os.write(3, b"\x00\x10\x00\x00")
        while True:
            os.write(3, b"x")
            time.sleep(0.01)

    def hang_up(self):
        os.close(3)
        time.sleep(60)

    def answer(self, **fields):
        """A reply of our own making, in place of the worker's."""
        import msgspec

        op = struct.unpack_from("<Q", self._memory(), 64)[0] + 1  # after the last reply's
        data = msgspec.msgpack.encode({"type": "batched", "op": op, **fields})
        os.write(3, struct.pack(">I", len(data)) + data)
        time.sleep(60)

    def other_kind(self):
        self.answer(type="shared")

    def somebody_elses_info(self):
        import msgspec

        self.answer(infos=msgspec.msgpack.encode([[10**6, {"a": 1}]]))

    def infos_that_are_none(self):
        import msgspec

        self.answer(infos=msgspec.msgpack.encode([[0, 7]]))

    def infos_that_do_not_fit(self):
        import msgspec

        self.answer(
            infos=msgspec.msgpack.encode([[0, {"a": 1, "_a": {"b": 2}}], [1, {"a": {}}]])
        )

    def endless_array(self):
        import msgspec

        one = msgspec.msgpack.encode(["<f8", [2**40, 0], b""])
        two = msgspec.msgpack.encode(["<f8", [2**40, 2**40, 0], b""])
        told = [
            [0, {"a": msgspec.msgpack.Ext(1, one)}],
            [1, {"b": msgspec.msgpack.Ext(1, two)}],
        ]
        self.answer(infos=msgspec.msgpack.encode(told))

    def nested_tuples(self):
        import msgspec

        one = b"\x90"
        for _ in range(5000):
            one = msgspec.msgpack.encode([msgspec.msgpack.Ext(3, one)])
        self.answer(infos=msgspec.msgpack.encode([[0, {"a": msgspec.msgpack.Ext(3, one)}]]))

    def somebody_elses_failure(self):
        self.answer(failures=[[77, "usage", "x", ""]])

    def our_own_words(self):
        return {"envhub_error": "mine", "_envhub_error": 1, "env_id": 7, "kept": 2}
