"""The CPU engine: ONNX Runtime on a folded, fixed-shape graph, made at first use and kept.

A graph that goes wrong goes wrong without an error (with dynamic padding left in it OpenVINO
answered nonsense, cosine 0.20), so every graph passes a gate before it is kept: on pictures that
took no part in making it, each descriptor must agree with the fp32 torch model's.

Shape letters: ``n`` frames, ``b`` the graph's fixed batch, ``s`` input side, ``r`` raw dimensions.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from matcher.config import cache_folder
from matcher.encoders.base import Precision, check_images, fingerprint
from matcher.encoders.probe_frames import probe_frames
from matcher.encoders.whitening import Whitening
from matcher.errors import MatcherError

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)

GRAPH_BATCH = 4
GATE_COSINE = 0.98
#: The first convolutions stay fp32: with them quantized too the worst real frame falls from cosine
#: 0.997 to 0.951, and they cost half a millisecond of three.
FP32_CONVOLUTIONS = 6
#: Raise it when a graph is made otherwise, so that kept ones are made anew.
GRAPH_REVISION = "2"


@dataclass(frozen=True)
class GraphFile:
    """One kept graph.

    Attributes:
        path: The ONNX file.
        precision: "fp32" or "int8".
        worst_cosine: The smallest agreement with the torch model at the gate.
    """

    path: Path
    precision: str
    worst_cosine: float


class OnnxRunner:
    """Runs one fixed-batch graph on any number of pictures.

    Args:
        path: The ONNX file.
        threads: 0 leaves it to ONNX Runtime, but is 1 where there are at most two cores.
    """

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        import onnxruntime as ort

        if threads == 0 and (os.cpu_count() or 1) <= 2:
            # The other core decodes: beside the decoder a second thread costs 13 to 17 % of the whole.
            threads = 1
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Spinning workers would take the core that the decoder needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self.batch = int(self._session.get_inputs()[0].shape[0])

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, s, s, 3) uint8 → (n, r) float32; the last batch is filled up and the filling dropped."""
        outputs = []
        for start in range(0, len(images), self.batch):
            block = images[start : start + self.batch]
            missing = self.batch - len(block)
            if missing:
                block = np.concatenate([block, np.repeat(block[-1:], missing, axis=0)])
            outputs.append(self._session.run(None, {self._input: block})[0][: self.batch - missing])
        return np.concatenate(outputs)


def ensure_graph(
    name: str, make_model: Callable[[], nn.Module], *, side: int, whitening: Whitening, precision: Precision
) -> GraphFile:
    """The kept graph of a model; made, checked and stored if it is not there.

    Args:
        name: Fingerprint of the model: the kept file's name.
        make_model: Called without arguments only when a graph has to be made; gives the torch model.
        side: Input side s.
        whitening: Applied before the gate compares, as in use.
        precision: "int8" insists on the quantized graph, "fp32" on the other; "auto" takes int8 where
            its gate holds and fp32 where it does not.

    Raises:
        MatcherError: The wanted graph does not pass its gate.
    """
    folder = cache_folder() / "graphs"
    record = folder / f"{name}-{_toolchain()}.json"
    kept = _read_record(record)
    if kept is None:
        folder.mkdir(parents=True, exist_ok=True)
        logger.info("preparing the encoder's graph (once; kept in %s)", folder)
        kept = _make_graphs(make_model(), folder, record, side=side, whitening=whitening)
    by_precision = {graph.precision: graph for graph in kept}
    wanted = "int8" if precision == "auto" else precision
    graph = by_precision[wanted]
    if graph.worst_cosine > GATE_COSINE:
        return graph
    if precision == "auto":
        logger.warning("int8 fails its gate here (cosine %.3f); using fp32", graph.worst_cosine)
        return ensure_graph(name, make_model, side=side, whitening=whitening, precision="fp32")
    raise MatcherError(
        f"the {wanted} graph answers otherwise than the torch model (worst cosine {graph.worst_cosine:.3f},"
        f" wanted > {GATE_COSINE}); use another precision, or report this with the output of `matcher doctor`"
    )


def _toolchain() -> str:
    import onnxruntime as ort

    return fingerprint([GRAPH_REVISION, ort.__version__, str(GRAPH_BATCH), str(FP32_CONVOLUTIONS)])[:8]


def _read_record(record: Path) -> list[GraphFile] | None:
    try:
        rows = json.loads(record.read_text())
        graphs = [
            GraphFile(record.parent / r["file"], r["precision"], float(r["worst_cosine"])) for r in rows
        ]
        sizes = [int(r["bytes"]) for r in rows]
        whole = all(g.path.stat().st_size == size for g, size in zip(graphs, sizes, strict=True))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return graphs if whole and {g.precision for g in graphs} == {"fp32", "int8"} else None


def _make_graphs(
    model: nn.Module, folder: Path, record: Path, *, side: int, whitening: Whitening
) -> list[GraphFile]:
    """Export, quantize, measure both against torch, move into place; the record goes last."""
    gate = probe_frames(24, side, seed=2)
    truth = whitening.apply(_run_torch(model, gate))
    rows: list[dict[str, str | float]] = []
    graphs = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fp32 = Path(scratch) / "fp32.onnx"
        int8 = Path(scratch) / "int8.onnx"
        _export(model, fp32, side=side)
        _quantize(fp32, int8, calibration=probe_frames(48, side, seed=1))
        for precision, path in (("fp32", fp32), ("int8", int8)):
            answer = whitening.apply(OnnxRunner(path)(gate))
            worst = float((answer * truth).sum(axis=1).min())
            kept = folder / f"{record.stem}-{precision}.onnx"
            size = path.stat().st_size
            path.replace(kept)
            rows.append({"file": kept.name, "precision": precision, "worst_cosine": worst, "bytes": size})
            graphs.append(GraphFile(kept, precision, worst))
        draft = Path(scratch) / "record.json"
        draft.write_text(json.dumps(rows, indent=1))
        draft.replace(record)
    return graphs


def _run_torch(model: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    import torch

    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy().astype(np.float32)  # type: ignore[no-any-return]


def _export(model: nn.Module, path: Path, *, side: int) -> None:
    """Write the fixed-shape graph, folded: no padding or shape is computed at run time."""
    import torch
    from onnxruntime.quantization.shape_inference import quant_pre_process

    example = torch.zeros((GRAPH_BATCH, side, side, 3), dtype=torch.uint8)
    raw = path.with_suffix(".raw.onnx")
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        _quiet("torch.onnx", "onnxscript", "onnx_ir"),  # and so their children, which have no level set
    ):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (example,), str(raw), dynamo=True, external_data=False, verbose=False,
            input_names=["images"], output_names=["raw"],
        )  # fmt: skip
    quant_pre_process(str(raw), str(path), skip_symbolic_shape=True)


class _Calibration:
    """Feeds pictures to ONNX Runtime's calibrator, a batch a call."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(
            images[i : i + GRAPH_BATCH] for i in range(0, len(images), GRAPH_BATCH)
        )

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def _quantize(source: Path, target: Path, *, calibration: NDArray[np.uint8]) -> None:
    """Static int8 (QDQ, weights per channel), the first convolutions left alone."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    convolutions = [node.name for node in onnx.load(str(source)).graph.node if node.op_type == "Conv"]
    with _quiet(""):
        quantize_static(
            str(source), str(target), _Calibration(calibration), quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
            op_types_to_quantize=["Conv", "Add", "Clip"], nodes_to_exclude=convolutions[:FP32_CONVOLUTIONS],
        )  # fmt: skip


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep libraries' advice off the operator's screen while a graph is made."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)


def run_whitened(
    runner: OnnxRunner, whitening: Whitening, images: NDArray[np.uint8], side: int
) -> NDArray[np.float32]:
    """Pictures (n, s, s, 3) → whitened descriptors (n, d); n may be 0."""
    check_images(images, side)
    if len(images) == 0:
        return np.zeros((0, whitening.d), np.float32)
    return whitening.apply(runner(images))
