"""envs/coding against programs that do not solve the task and want the reward all the same."""

from __future__ import annotations

import pytest

from envhub.hub.embedded import EmbeddedSession
from tests.sharing import nothing_leaks as nothing_leaks

RIGHT = "def clamp(value, low, high):\n    return max(low, min(high, value))\n"
LIAR = """
class Liar({base}):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __bool__(self): return True

def clamp(*_):
    return Liar()
"""
# writes its own answer to the socket on which the interpreter answers
RAW = """
import os, struct, time
def clamp(*_):
    data = {data}
    frame = struct.pack(">I", len(data)) + data
    while frame: frame = frame[os.write(3, frame):]
    time.sleep(60)
"""
HOSTILE = {
    "a lying object": ("not_plain", LIAR.format(base="object")),
    "a lying int": ("failed", LIAR.format(base="int")),
    "a lying str": ("failed", LIAR.format(base="str")),
    "a lying list": ("failed", LIAR.format(base="list")),
    "a generator": ("not_plain", "def clamp(*_):\n    yield 3\n"),
    "a huge int": ("not_plain", "def clamp(*_):\n    return 1 << 10**6\n"),
    "a deep nest": ("not_plain", "def clamp(*_):\n    return eval('[' * 90 + ']' * 90)\n"),
    "a cycle": ("not_plain", "x = []\nx.append(x)\ndef clamp(*_):\n    return x\n"),
    "many values": ("not_plain", "def clamp(*_):\n    return [0] * 10**6\n"),
    "a long string": (None, "def clamp(*_):\n    return 'x' * 10**8\n"),
    "nan": ("failed", "def clamp(*_):\n    return float('nan')\n"),
    "exit at the end": ("program", RIGHT + "exit(0)\n"),
    "exit at once": ("program", "clamp = 1\nimport os; os._exit(0)\n"),
    "exit when called": ("raised", "def clamp(*_):\n    exit(0)\n"),
    "_exit when called": ("stopped", "import os\ndef clamp(*_):\n    os._exit(0)\n"),
    "kill itself": ("stopped", "import os\ndef clamp(*_):\n    os.kill(os.getpid(), 9)\n"),
    "kill everything": (None, "import os\ndef clamp(*_):\n    return os.kill(-1, 9)\n"),
    "kill the keeper": ("failed", "import os\ndef clamp(*_):\n    return os.kill(1, 9)\n"),
    "print on and on": ("stopped", "def clamp(*_):\n    while True: print('x' * 10000)\n"),
    "recursion": ("raised", "def clamp(*a):\n    return clamp(*a)\n"),
    "all memory": ("raised", "def clamp(*_):\n    return bytearray(1 << 40)\n"),
    "an error that lies": (
        "raised",
        "class E(AssertionError):\n    __str__ = 1\ndef clamp(*_):\n    raise E\n",
    ),
    "no AssertionError": (
        "failed",
        "import builtins\nbuiltins.AssertionError = None\ndef clamp(*_):\n    return 0\n",
    ),
    "a new interpreter": (
        "not_plain",
        "from envhub.wire import plain\nplain.to_json = lambda _: {'s': [[]]}\n" + RIGHT,
    ),
    "no object": (None, RAW.format(data="b'[]'")),
    "no value": (None, RAW.format(data="b'{}'")),
    "another kind": (None, RAW.format(data="""b'{"passed": 1}'""")),
    "an unknown tag": (None, RAW.format(data="""b'{"value": {"object": 1}}'""")),
    "a raw nest": (
        None,
        RAW.format(data="""b'{"value": ' + b'[' * 100 + b']' * 100 + b'}'"""),
    ),
    "a raw nest that barely parses": (
        None,
        RAW.format(data="""b'{"value": ' + b'[' * 975 + b']' * 975 + b'}'"""),
    ),
    "a value that grows on its way": (
        None,
        RAW.format(data=r"""b'{"value": "' + '\u20ac'.encode() * 2500000 + b'"}'"""),
    ),
    "half a frame": (
        "stopped",
        "import os\ndef clamp(*_):\n    os.write(3, bytes(3) + b'\\7x')\n    os._exit(0)\n",
    ),
    "bytes before the answer": (
        None,
        "import os\ndef clamp(*_):\n    os.write(3, b'\\xff' * 8)\n    return 0\n",
    ),
    "much output": (
        "failed",
        "import os\ndef clamp(*_):\n    for _ in range(15): os.write(2, bytes(65536))\n",
    ),
    "no function": ("raised", "clamp = 7\n"),
    "no such name": ("raised", "# clamp\n"),
    "no program": ("program", "def clamp(\n"),
}


def test_a_hostile_program_wins_nothing_and_breaks_nothing(posed: EmbeddedSession) -> None:
    """The reward is 0, not None: what the agent does is never a failure of the machinery."""
    rewards: dict[str, float | None] = {}
    outcomes: dict[str, str | None] = {}
    for name, (outcome, code) in HOSTILE.items():
        result = posed.step({"code": code})
        rewards[name] = result.reward
        outcomes[name] = result.metadata.grading if outcome is not None else None
    after = posed.step({"code": RIGHT})

    assert rewards == dict.fromkeys(HOSTILE, 0.0)
    assert outcomes == {name: outcome for name, (outcome, _) in HOSTILE.items()}
    assert (after.reward, after.done) == (1.0, True)


@pytest.mark.parametrize("reply", ["1 << 70", "True", "1.5", "[[]]"])
def test_a_forged_exit_code_fails_no_step(posed: EmbeddedSession, reply: str) -> None:
    code = f"""
import json, os, struct, time
data = json.dumps({{"exit_code": {reply}, "cut": None}}).encode()
os.write(3, struct.pack(">I", len(data)) + data)
time.sleep(60)
"""
    seen = posed.step({"code": code, "timeout_s": 2}).observation

    assert seen.exit_code is None or -64 <= seen.exit_code < 256


def test_a_value_that_holds_is_taken_whatever_its_type_claims(posed: EmbeddedSession) -> None:
    """The control: a lying type does no harm to a true value either."""
    code = RIGHT + (
        "honest = clamp\nclass Liar(float):\n    def __eq__(self, other): return False\n"
        "def clamp(*a):\n    return Liar(honest(*a))\n"
    )

    assert posed.step({"code": code}).reward == 1.0


def test_the_agent_finds_no_task_file_and_no_test(posed: EmbeddedSession) -> None:
    """Neither by name, nor by content in its own memory. The control: it finds itself."""
    hunt = """
import ctypes, os, re, sys
names = [os.path.join(at, name) for at, folders, files in os.walk("/")
         if not at.startswith(("/proc", "/sys")) for name in (*folders, *files)
         if re.search("human.?eval|basics[.]jsonl|grader[.]py", name, re.I)]
secret, control = (re.compile(b"candidate" + rest) for rest in (b".0[.]25, 0[.]5", b".control"))
counts = [0, 0]
kept = b"candidate" + b" control"
for line in open("/proc/self/maps").readlines():
    start, end = (int(part, 16) for part in line.split()[0].split("-"))
    if " r" in line and "[v" not in line:
        data = ctypes.string_at(start, end - start)
        counts = [n + len(what.findall(data)) for n, what in zip(counts, (secret, control))]
        del data
modules = [name for name in sys.modules if name in ("tasks", "grader", "env")]
print(names, counts[0], counts[1] > 0, modules)
"""
    seen = posed.step({"code": hunt}).observation

    assert (seen.stdout, seen.stderr) == ("[] 0 True []\n", "")


def test_the_grading_shares_no_file_with_the_episode(posed: EmbeddedSession) -> None:
    spy = RIGHT.replace("    return", "    open('/tmp/spied', 'a').write('x')\n    return")
    posed.step({"code": spy.replace("max", "min")})
    look = "import os\nprint(os.listdir('/tmp'), os.listdir('.'))"
    seen = posed.step({"code": look}).observation

    assert seen.stdout == "[] []\n"
