"""Train a tiny random model by TRL's GRPO on `guess_env`, wherever it is served.

Run by the interpreter that has TRL, with the folder of the client, the address, and how the
environment is to reward. Prints the probability of the right guess before and after as JSON.
Everything is made here: nothing is downloaded.
"""

import json
import os
import sys
import tempfile

os.environ |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
FOLDER, URL, REWARDS = sys.argv[1:]
sys.path.insert(0, FOLDER)

import torch  # noqa: E402
import trl  # noqa: E402
from datasets import Dataset  # noqa: E402
from guess_env import GuessAction, GuessEnv  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: E402
from transformers import (  # noqa: E402
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    set_seed,
)

NUMBERS = range(6)
TARGET = 3
ROLLOUTS = 16
END = "<|im_end|>"


class Guessing:
    """What TRL plays: one instance for each concurrent rollout, reset again and again."""

    def __init__(self):
        self._env = GuessEnv(base_url=URL).sync()
        self._reward = 0.0
        self._guessed = False

    def reset(self, **row):
        self._reward, self._guessed = 0.0, False
        return self._env.reset(seed=next(_seeds), rewards=REWARDS).observation.hint

    def guess(self, number: int) -> str:
        """Guess the number.

        Args:
            number: from 0 to 5.
        """
        result = self._env.step(GuessAction(number=number))
        self._reward += result.reward
        self._guessed = True
        return result.observation.hint

    def get_reward(self) -> float:
        assert self._env.state().step_count > 0 or not self._guessed  # on the same session
        return self._reward


_seeds = iter(range(10**9))


def call(number):
    """Return a guess as Qwen's models write it, so that one token is one action."""
    said = json.dumps({"name": "guess", "arguments": {"number": number}})
    return f"<tool_call>\n{said}\n</tool_call>"


def make_tokenizer():
    """Return a tokenizer of bytes, of Qwen's marks, and of whole actions."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|im_start|>", END, "<|pad|>"])
    made.add_tokens([AddedToken(call(n), normalized=False, special=False) for n in NUMBERS])
    found = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=END, pad_token="<|pad|>", padding_side="left"
    )
    found.chat_template = trl.chat_template_utils.qwen3_instruct_2507_chat_template
    return found


def make_model(tokenizer):
    torch.manual_seed(0)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64,
            num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=16,
            max_position_embeddings=2048, tie_word_embeddings=False,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )  # fmt: skip


def probability(trainer, tokenizer, allowed):
    """How likely the model's first token is the right guess, among what it may say."""
    said = [{"role": "user", "content": "Play.Guess a number from 0 to 5."}]
    prompt = tokenizer.apply_chat_template(
        said, tools=trainer.tools, add_generation_prompt=True, return_tensors="pt"
    )
    with torch.no_grad():
        logits = trainer.model(**prompt).logits[0, -1, allowed]
    right = tokenizer.convert_tokens_to_ids(call(TARGET))
    return torch.softmax(logits, -1)[allowed.index(right)].item()


def main():
    set_seed(0)
    tokenizer = make_tokenizer()
    actions = [tokenizer.convert_tokens_to_ids(call(n)) for n in NUMBERS]
    allowed = [*actions, tokenizer.eos_token_id]
    with tempfile.TemporaryDirectory() as output:
        trainer = trl.GRPOTrainer(
            model=make_model(tokenizer),
            processing_class=tokenizer,
            environment_factory=Guessing,
            train_dataset=Dataset.from_list(
                [{"prompt": [{"role": "user", "content": "Play."}]}] * ROLLOUTS
            ),
            args=trl.GRPOConfig(
                output_dir=output, per_device_train_batch_size=ROLLOUTS,
                num_generations=ROLLOUTS, max_steps=25, learning_rate=5e-3,
                lr_scheduler_type="constant",
                max_completion_length=64, max_tool_calling_iterations=1, beta=0.0,
                generation_kwargs={
                    "suppress_tokens": sorted(set(range(len(tokenizer))) - set(allowed)),
                    "eos_token_id": allowed,  # one action is a turn
                },
                use_cpu=True, bf16=False, report_to=[], save_strategy="no",
                logging_steps=1, disable_tqdm=True, seed=0,
            ),
        )  # fmt: skip
        before = probability(trainer, tokenizer, allowed)
        trainer.train()
        after = probability(trainer, tokenizer, allowed)
    rewards = [h["reward"] for h in trainer.state.log_history if "reward" in h]
    failures = [h.get("tools/failure_frequency") for h in trainer.state.log_history]
    print(json.dumps({
        "before": before, "after": after, "rewards": rewards,
        "failures": [f for f in failures if f],
    }))  # fmt: skip


main()
