"""Read what a pair can do from its small files: no weights, and nothing that is not on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, cast

from langchain_core.language_models.model_profile import ModelProfile

from dami_agent.checkpoints import generation_settings
from dami_agent.checkpoints.builtin_folder import builtin_folder
from dami_agent.errors import CheckpointError
from dami_agent.policy import EFFORTS

_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")


def profile_of(
    name: str, folders: tuple[Path | None, ...], context_length: int | None, *, engine: Any = None
) -> ModelProfile:
    """Describe a pair for LangChain's middleware.

    ``structured_output`` means LangChain's provider strategy: JSON as the answer, beside tools. These checkpoints are
    trained to call tools, and the built-in pair goes on calling them under that strategy; where the template shows
    tools it is therefore False, and agents ask for structured output by a tool call. ``with_structured_output`` offers
    both at any time.

    Args:
        name: the pair's.
        folders: of the Instruct and the Thinking checkpoint; None for one that is not on this machine yet.
        context_length: as the user limits it.
        engine: an engine given as an object; its window counts.
    """
    templates = [text for folder in folders if folder is not None and (text := _chat_template(folder)) is not None]
    tools = all("tools" in text and "<tool_call>" in text for text in templates)
    profile: dict[str, Any] = {
        "name": name,
        "open_weights": True,
        "text_inputs": True,
        "text_outputs": True,
        **dict.fromkeys(("image_inputs", "image_url_inputs", "pdf_inputs", "audio_inputs", "video_inputs"), False),
        **dict.fromkeys(("image_outputs", "audio_outputs", "video_outputs", "attachment"), False),
        **dict.fromkeys(("image_tool_message", "pdf_tool_message"), False),
        "reasoning_output": True,
        "reasoning_effort_levels": list(EFFORTS),
        "reasoning_effort_default": "auto",
        "tool_calling": tools,
        "tool_choice": tools,
        "tool_call_streaming": tools,
        "structured_output": not tools,
        "temperature": True,
    }
    window = engine.info.context_length if engine is not None else _window(folders, context_length)
    if window is not None:
        profile["max_input_tokens"] = window
        profile["max_output_tokens"] = window  # prompt and reply share it
    known = ModelProfile.__annotations__
    return cast("ModelProfile", {key: value for key, value in profile.items() if key in known})


def folder_of(checkpoint: str | None, side: str, revision: str | None) -> Path | None:
    """Return where the small files of a checkpoint lie.

    Args:
        checkpoint: folder or hub id; None is the built-in pair's.
        side: ``instruct`` or ``thinking``.
        revision: of a hub id.

    Returns:
        A folder, or None for a hub id that is not in the cache.
    """
    if checkpoint is None:
        return builtin_folder() / side
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(checkpoint, "config.json", revision=revision)
    except HFValidationError:  # no hub id either; opening the pair says so
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def default_temperature(folders: Sequence[Path | None], intensity: Any) -> float | None:
    """Return the temperature of calls that give none.

    Args:
        folders: of the Instruct and the Thinking checkpoint; None for one that is not on this machine yet.
        intensity: a λ, which says whose default it is, or anything else where that is not known yet.

    Returns:
        None where it is not known before the call: by files that are not here, or by checkpoints that differ.
    """
    if isinstance(intensity, Real):
        folders = folders[:1] if intensity == 0 else folders[1:]
    found: set[float] = set()
    for folder in folders:
        if folder is None:
            return None
        path = folder / generation_settings.FILE
        try:
            found.add(generation_settings.temperature(generation_settings.checked(_json(path), path)))
        except CheckpointError:  # opening the pair says what is wrong
            return None
    return found.pop() if len(found) == 1 else None


def _window(folders: tuple[Path | None, ...], context_length: int | None) -> int | None:
    lengths = [context_length, *(_context(_json(folder / "config.json")) for folder in folders if folder is not None)]
    known = [length for length in lengths if length is not None]
    return min(known) if known else None


def _context(config: Mapping[str, Any]) -> int | None:
    nested = config.get("text_config")
    for part in (config, nested if isinstance(nested, Mapping) else {}):
        for key in _CONTEXT_KEYS:
            if isinstance(length := part.get(key), int) and length > 0:
                return length
    return None


def _json(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # opening the pair says what is wrong
        return {}
    return value if isinstance(value, Mapping) else {}


def _chat_template(folder: Path) -> str | None:
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8", errors="replace")
    template = _json(folder / "tokenizer_config.json").get("chat_template")
    return template if isinstance(template, str) else None if template is None else json.dumps(template)
