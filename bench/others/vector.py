"""`python vector.py WAY GAME SIZE [TOLD]`: many environments at once, one library's way.

For `bench.cartpole`. It runs where that library is installed, often without envhub. GAME is
"CartPole" or "counter". Each line of standard input is a number of seconds to step for; the
answer is a JSON object.
"""

import json
import sys
import time

_WARM = 0.5  # of the seconds, before; what slept or was stopped wakes in them
_LEAST = 2  # steps of them all


def one(game):
    """Return what makes one environment."""
    import gymnasium
    from counter import Counter

    return Counter if game == "counter" else lambda: gymnasium.make("CartPole-v1")


def envhub_strict(game, size, folder):
    import envhub

    return envhub.make_vec(game.lower(), size, envs=folder)


def envhub_whole(game, size, folder):
    import envhub

    mode = "vector_entry_point"
    return envhub.make_vec(game.lower(), size, envs=folder, vectorization_mode=mode)


def sync(game, size, _):
    import gymnasium

    return gymnasium.vector.SyncVectorEnv([one(game)] * size)


def asynchronous(game, size, _):
    import gymnasium

    return gymnasium.vector.AsyncVectorEnv([one(game)] * size)


def vectorised(_, size, __):
    import gymnasium

    return gymnasium.make_vec("CartPole-v1", size, vectorization_mode="vector_entry_point")


def subproc(game, size, _):
    from stable_baselines3.common.vec_env import SubprocVecEnv

    # forkserver, its default, has each process import torch: as fast, and 21 MB each, not 3
    return SubprocVecEnv([one(game)] * size, start_method="fork")


def puffer(game, size, workers):
    import pufferlib.emulation
    import pufferlib.vector

    def make(buf=None, seed=0):
        return pufferlib.emulation.GymnasiumPufferEnv(env_creator=one(game), buf=buf, seed=seed)

    return pufferlib.vector.make(
        make,
        num_envs=size,
        num_workers=int(workers),
        backend=pufferlib.vector.Multiprocessing,
        overwork=True,
    )


def envpool(_, size, __):
    import envpool

    return envpool.make_gymnasium("CartPole-v1", num_envs=size)


WAYS = {
    "envhub": envhub_strict,
    "envhub-whole": envhub_whole,
    "sync": sync,
    "async": asynchronous,
    "vectorised": vectorised,
    "subproc": subproc,
    "puffer": puffer,
    "envpool": envpool,
}


def steps(env, actions, seconds):
    """Step for so long; return how many steps of them all, and the time that they took."""
    done, began = 0, time.perf_counter()
    while done < _LEAST or time.perf_counter() - began < seconds:
        env.step(actions[done % len(actions)])
        done += 1
    return done, time.perf_counter() - began


def play(env, size, actions):
    """Say that it can begin, and step when and as long as it is told to."""
    try:
        env.reset()
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            seconds = float(line)
            warm, _ = steps(env, actions, seconds * _WARM)
            done, took = steps(env, actions, seconds)
            answer = {"rate": done * size / took, "steps": (warm + done) * size}
            print(json.dumps(answer), flush=True)
    finally:
        env.close()


if __name__ == "__main__":
    import numpy as np

    way, game, number, told = sys.argv[1:]
    # drawn before, so that no draw is measured
    drawn = np.random.default_rng(1).integers(0, 2, (64, int(number))).astype(np.int32)
    play(WAYS[way](game, int(number), told), int(number), drawn)
