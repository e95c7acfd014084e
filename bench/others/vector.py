"""`python vector.py WAY SIZE [FOLDER]`: CartPole, many at once, one library's way.

For `bench.cartpole`. It runs where that library is installed, often without envhub. Each line
of standard input is a number of seconds to step for; the answer is a JSON object.
"""

import json
import sys
import time

_WARM = 0.5  # of the seconds, before; what slept or was stopped wakes in them
_LEAST = 2  # steps of them all


def envhub_strict(size, folder):
    import envhub

    return envhub.make_vec("cartpole", size, envs=folder)


def sync(size, _):
    import gymnasium

    return gymnasium.make_vec("CartPole-v1", size, vectorization_mode="sync")


def asynchronous(size, _):
    import gymnasium

    return gymnasium.make_vec("CartPole-v1", size, vectorization_mode="async")


def vectorised(size, _):
    import gymnasium

    return gymnasium.make_vec("CartPole-v1", size, vectorization_mode="vector_entry_point")


def subproc(size, _):
    import gymnasium
    from stable_baselines3.common.vec_env import SubprocVecEnv

    # forkserver, its default, has each process import torch: as fast, and 21 MB each, not 3
    made = [lambda: gymnasium.make("CartPole-v1")] * size
    return SubprocVecEnv(made, start_method="fork")


def puffer(size, workers):
    import gymnasium
    import pufferlib.emulation
    import pufferlib.vector

    def make(buf=None, seed=0):
        return pufferlib.emulation.GymnasiumPufferEnv(
            env_creator=lambda: gymnasium.make("CartPole-v1"), buf=buf, seed=seed
        )

    return pufferlib.vector.make(
        make,
        num_envs=size,
        num_workers=int(workers),
        backend=pufferlib.vector.Multiprocessing,
        overwork=True,
    )


def envpool(size, _):
    import envpool

    return envpool.make_gymnasium("CartPole-v1", num_envs=size)


WAYS = {
    "envhub": envhub_strict,
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

    way, number, *told = sys.argv[1:]
    # drawn before, so that no draw is measured
    drawn = np.random.default_rng(1).integers(0, 2, (64, int(number))).astype(np.int32)
    play(WAYS[way](int(number), *told), int(number), drawn)
