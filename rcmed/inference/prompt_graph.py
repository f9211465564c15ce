"""One prompt about one image by ONNX Runtime on a CPU, in about two thirds of the time that torch takes.

A prompt is hundreds of operations on few numbers, which cost more to call than to compute; a graph calls them for less.
Images, and prompts that share a pass, are not faster by it and stay with torch.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from rcmed.durable_files import replaced
from rcmed.errors import ConfigurationError
from rcmed.model.grounding.decoder import GroundingDecoder, ImageMaps
from rcmed.model.language import EncodedPrefix
from rcmed.model.modeling import EncodedImage, PromptTokens, RCMedModel, RCMedOutput

_LOG = logging.getLogger(__name__)
_FILE = "prompt.onnx"
# Count this up when the code that the graph is traced from changes what it computes.
_TRACED = 1
# Of the prompt that is traced; any but 0 and 1, which would be taken for fixed.
_WORDS = 5


class PromptGraph:
    """Answers as `RCMedModel.ground` does; may be asked from several threads at once."""

    def __init__(self, path: Path, threads: int) -> None:
        """Load a graph.

        Args:
            path: of `write_graph`.
            threads: that share the work of a prompt.
        Raises:
            ConfigurationError: the file is no graph.
        """
        # It may report its use to its maker, from its import on; nothing may leave a hospital unasked.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that wait by turning round would take the processor from torch's.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no base of their own.
            raise ConfigurationError(f"{path}: is no graph that can be read ({error}); delete its folder") from error
        self._inputs = [each.name for each in self._session.get_inputs()]

    @classmethod
    def of(cls, model: RCMedModel) -> PromptGraph:
        """The graph of these weights, which must not change any more; made once, in half a minute.

        It is kept in the user's cache (`$XDG_CACHE_HOME/rcmed`).

        Args:
            model: small, float32, on a CPU.
        Raises:
            ConfigurationError: what it needs is not installed, the model is of another size, the kept graph is damaged,
                or the cache can't be written.
        """
        if not isinstance(model.grounding, GroundingDecoder) or model.loop is not None:
            raise ConfigurationError("device onnx: is for small models without a closed loop; use cpu or cuda")
        try:
            return cls(_kept_graph(model), torch.get_num_threads())
        except ModuleNotFoundError as error:
            raise ConfigurationError(f"device onnx needs {error.name}: pip install 'rcmed[onnx]'") from error

    def ground(self, encoded: EncodedImage, prompt: PromptTokens) -> RCMedOutput:
        """Mask logits float (1, r, c) and presence logits float (1,) of one prompt.

        Args:
            encoded: one image, prepared (`RCMedModel.prepare`).
            prompt: the words.
        """
        length = int(prompt.seg_position[0]) + 1
        given = [prompt.tokens[:, :length], prompt.name[:, :length], *_flat(encoded)]
        arrays = [tensor.contiguous().numpy() for tensor in given]
        answers = self._session.run(None, dict(zip(self._inputs, arrays, strict=True)))
        mask_logits, presence_logits = (torch.from_numpy(answer) for answer in answers)
        return RCMedOutput(mask_logits=mask_logits, presence_logits=presence_logits)


class _PromptPart(nn.Module):
    """What `RCMedModel.ground` makes of one prompt about one image, as a function of tensors alone."""

    def __init__(self, model: RCMedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, name: Tensor, image: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        last = torch.full((1,), tokens.shape[1] - 1)
        prompt = PromptTokens(tokens, torch.ones_like(name), last, name)
        layers = self.model.language.decoder.config.num_hidden_layers
        output = self.model.ground(_from_flat(image, layers), torch.zeros(1, dtype=torch.long), prompt)
        assert output.mask_logits is not None and output.presence_logits is not None
        return output.mask_logits, output.presence_logits


def _flat(encoded: EncodedImage) -> list[Tensor]:
    """What a prompt needs of an image."""
    assert isinstance(encoded.prepared, ImageMaps)
    return [*encoded.prefix.keys, *encoded.prefix.values, *encoded.prepared.tensors()]


def _from_flat(tensors: Sequence[Tensor], layers: int) -> EncodedImage:
    """An image of which there is what a prompt needs, and nothing else."""
    keys, values, maps = tensors[:layers], tensors[layers : 2 * layers], tensors[2 * layers :]
    nothing = maps[0].new_zeros(0)
    prefix = EncodedPrefix(tuple(keys), tuple(values), image_states=nothing)
    return EncodedImage(nothing, (), prefix, prepared=ImageMaps.of(maps))


def _kept_graph(model: RCMedModel) -> Path:
    from platformdirs import user_cache_path

    path = user_cache_path("rcmed") / "onnx" / _fingerprint(model) / _FILE
    if path.is_file():
        return path
    _LOG.info("making a graph of these weights for ONNX Runtime, once: %s", path)
    # Another process may make the same one: each writes its own, and whichever is last stays.
    try:
        with replaced(path) as part:
            write_graph(model, part)
    except OSError as error:
        message = f"{path.parent}: can't be written ({error.strerror}); let XDG_CACHE_HOME name a folder that can"
        raise ConfigurationError(message) from error
    return path


def _fingerprint(model: RCMedModel) -> str:
    """Of weights, configuration and all that makes a graph of them."""
    digest = hashlib.sha256(save({name: value.contiguous() for name, value in model.state_dict().items()}))
    made_by = [f"{name} {version(name)}" for name in ("torch", "transformers", "onnx", "onnxscript")]
    digest.update("\n".join([str(_TRACED), model.config.to_json_string(), *made_by]).encode())
    return digest.hexdigest()


@torch.no_grad()
def write_graph(model: RCMedModel, path: Path) -> None:
    """Trace the model's code for one prompt of any length.

    Args:
        model: small, float32, on a CPU.
        path: where the graph, with the weights inside, is written (ONNX).
    """
    text, words = torch.zeros(_WORDS, dtype=torch.long), torch.zeros(1, _WORDS, dtype=torch.long)
    pixels = torch.zeros(1, 3, model.config.image_size, model.config.image_size)
    image = _flat(model.prepare(model.encode(pixels, text, text)))
    read = 2 * model.language.decoder.config.num_hidden_layers
    any_length = torch.export.Dim.AUTO
    program = torch.onnx.export(
        _PromptPart(model).eval(),
        (words, torch.ones_like(words, dtype=torch.bool), image),
        dynamo=True,
        dynamic_shapes={
            "tokens": {1: any_length},
            "name": {1: any_length},
            "image": [{2: any_length}] * read + [{}] * (len(image) - read),
        },
        optimize=True,
        verbose=False,
        external_data=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)
