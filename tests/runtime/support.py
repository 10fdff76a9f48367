"""What the runtime's tests share: a tiny random pair, engines over it, and slow obvious references."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from dami_agent.runtime import LocalEngine, ThoughtMarkers
from dami_agent.types import Decision, EngineInfo, Intensity, Limits, Prompt, Sampling
from dami_agent.weights import load_weights
from dami_agent.weights.base import cache_argument

VOCAB = 320
CONTEXT = 512
GREEDY = Sampling(temperature=0.0, seed=0)


class Lab:
    """One pair on disk, with everything a test needs around it."""

    def __init__(self, instruct: Path, thinking: Path, scratch: Path) -> None:
        self.instruct, self.thinking, self._scratch = instruct, thinking, scratch
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(instruct)
        ids = self.tokenizer.get_vocab()
        self.open_id, self.close_id, self.tool_call_id = ids["<think>"], ids["</think>"], ids["<tool_call>"]
        self.eos_ids = (ids["<|im_end|>"], ids["<|endoftext|>"])
        self.after_close = tuple(self.tokenizer.encode("\n\n", add_special_tokens=False))
        self._references: dict[float, PreTrainedModel] = {}

    @property
    def markers(self) -> ThoughtMarkers:
        return ThoughtMarkers(
            open_id=self.open_id,
            close_id=self.close_id,
            tool_call_id=self.tool_call_id,
            after_close_ids=self.after_close,
        )

    def engine(self, mode: str = "mixed", **options: Any) -> LocalEngine:
        defaults: dict[str, Any] = {
            "instruct": {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20},
            "thinking": {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20},
        }
        info = EngineInfo(
            model="tiny",
            fingerprint="tiny",
            context_length=options.pop("context_length", CONTEXT),
            vocab_size=VOCAB,
            weights_mode=mode,  # type: ignore[arg-type]
            device="cpu",
            dtype="float32",
            layers=2,
            module_intensities=mode == "merged",
        )
        options.setdefault("markers", self.markers)
        options.setdefault("eos_token_ids", self.eos_ids)
        weights = options.pop("weights", None)
        return LocalEngine(
            weights or (lambda: load_weights(self.instruct, self.thinking, mode=mode)),  # type: ignore[arg-type]
            self.tokenizer,
            info=info,
            generation_defaults=defaults,
            **options,
        )

    def reference(self, intensity: float) -> PreTrainedModel:
        """transformers' model of a checkpoint merged by these ten lines and read back from disk."""
        if intensity not in self._references:
            folder = self._scratch / f"merged-{intensity}"
            model = AutoModelForCausalLM.from_pretrained(self.instruct, dtype=torch.float32)
            model.save_pretrained(folder)
            a, b = load_file(self.instruct / "model.safetensors"), load_file(self.thinking / "model.safetensors")
            merged = {name: (1 - intensity) * a[name].double() + intensity * b[name].double() for name in a}
            save_file(
                {n: t.float().contiguous() for n, t in merged.items()}, folder / "model.safetensors", {"format": "pt"}
            )
            self._references[intensity] = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return self._references[intensity]

    def logits(self, intensity: float, tokens: Sequence[int]) -> torch.Tensor:
        """Reference logits after every token, float32 [tokens, vocabulary]."""
        with torch.no_grad():
            return self.reference(intensity)(torch.tensor([list(tokens)])).logits[0].float()

    def shared_logits(self, prefix: float, intensity: float, length: int, tokens: Sequence[int]) -> torch.Tensor:
        """Reference logits of a reply whose prompt was read at another λ, all but its last token.

        Args:
            prefix: λ that the prompt is read at.
            intensity: λ of the reply.
            length: tokens of the prompt.
            tokens: prompt and reply.

        Returns:
            Float32 [reply tokens + 1, vocabulary], after the prompt's last token and every one of the reply.
        """
        with torch.no_grad():
            first = self.reference(prefix)(torch.tensor([list(tokens[: length - 1])]), use_cache=True)
            rest = torch.tensor([list(tokens[length - 1 :])])
            model = self.reference(intensity)
            past = {cache_argument(model): first.past_key_values}
            return model(rest, **past).logits[0].float()

    def assert_shared_greedy(
        self, prefix: float, intensity: float, prompt: Sequence[int], output: Sequence[int]
    ) -> None:
        """``output`` is what greedy decoding of the reference with a shared prefix gives, ties aside."""
        logits = self.shared_logits(prefix, intensity, len(prompt), [*prompt, *output])
        logits[:, [self.open_id, self.close_id]] = -torch.inf
        for i, token in enumerate(output):
            gap = float(logits[i].max() - logits[i][token])
            assert gap < 1e-3, f"token {i}: {token} is {gap} below {int(logits[i].argmax())}"

    def assert_near_tie(self, intensity: float, prompt: Sequence[int], a: Sequence[int], b: Sequence[int]) -> None:
        """Two greedy outputs part where the two best logits are closer than 1e-3 (rule 3 of architecture.md)."""
        at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        best = self.logits(intensity, [*prompt, *a[:at]])[-1].topk(2).values
        assert float(best[0] - best[1]) < 1e-3, f"they part at token {at}, where the gap is {best[0] - best[1]}"

    def assert_greedy(self, intensity: float, prompt: Sequence[int], output: Sequence[int], *, skip: int = 0) -> None:
        """``output`` is what greedy decoding of the reference gives, ties closer than 1e-3 aside (teacher forcing).

        Of an answer: the markers of a thought are never drawn in one.
        """
        logits = self.logits(intensity, [*prompt, *output])
        logits[:, [self.open_id, self.close_id]] = -torch.inf
        for i, token in enumerate(output):
            if i < skip:
                continue
            row = logits[len(prompt) + i - 1]
            gap = float(row.max() - row[token])
            assert gap < 1e-3, f"token {i}: {token} is {gap} below {int(row.argmax())} at λ={intensity}"


def ask(intensity: float = 0.0, *, sampling: Sampling = GREEDY, **limits: Any) -> Decision:
    """A decision with these limits."""
    return Decision(
        intensity=Intensity(intensity), template="instruct", reason="test", sampling=sampling, limits=Limits(**limits)
    )


def prompt_of(tokens: Sequence[int], **fields: Any) -> Prompt:
    return Prompt(token_ids=tuple(tokens), template="instruct", **fields)
