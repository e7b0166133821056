"""The routes from PyTorch to ONNX that people take: exporter, attention, opset, and onnxruntime's own optimisation. All of
them write the same model, so that one expected.json serves all, and their graphs share the numbers of one file."""

import tempfile
from pathlib import Path

import onnx
import onnxruntime as ort
from onnx.external_data_helper import set_external_data

import bundle

GRAPHS = ("vision_encoder", "decoder_model_merged")
WEIGHTS = "weights.onnx_data"
# Exporter, attention, opset.
EXPORTS = [
    ("torchscript", "eager", 14),
    ("torchscript", "sdpa", 14),
    ("torchscript", "sdpa", 18),
    ("dynamo", "eager", 18),
    ("dynamo", "sdpa", 18),
    ("dynamo", "sdpa", 23),
]
# What onnxruntime makes of the graphs of a route.
SESSIONS = {"session-basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, "session-extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED}
OPTIMISED = [("torchscript-eager-14", *session) for session in SESSIONS.items()]


class Shared:
    """One file of external data, each number of it once."""

    def __init__(self, path: Path):
        self.path, self.bytes, self.places = path, bytearray(), {}

    def save(self, model: onnx.ModelProto, path: Path) -> None:
        for node in model.graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
        for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
            del value.metadata_props[:]
        del model.graph.metadata_props[:], model.metadata_props[:], model.functions[:]
        for tensor in model.graph.initializer:
            data = onnx.numpy_helper.to_array(tensor).tobytes()
            if len(data) < 128:  # shapes and the like, which have to stay inside
                continue
            if data not in self.places:
                self.places[data] = len(self.bytes)
                self.bytes += data
            tensor.ClearField("float_data")
            tensor.raw_data = data
            set_external_data(tensor, WEIGHTS, self.places[data], len(data))
            tensor.ClearField("raw_data")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString())
        self.path.write_bytes(self.bytes)


def write_routes(family, model, folder: Path) -> None:
    shared, ways = Shared(folder / WEIGHTS), dict(bundle.WAY)
    with tempfile.TemporaryDirectory() as made:
        for exporter, attention, opset in EXPORTS:
            name = Path(made) / f"{exporter}-{attention}-{opset}"
            name.mkdir()
            model.set_attn_implementation(attention)
            bundle.WAY.update(dynamo=exporter == "dynamo", opset_version=opset)
            family.write_encoder(model, name)
            bundle.write_language_model(name, model.get_input_embeddings(), family.language(model), model.lm_head, family.POSITION_AXES)
        model.set_attn_implementation("eager")
        bundle.WAY.update(ways)
        for route, how, level in OPTIMISED:
            name = Path(made) / f"{route}-{how}"
            name.mkdir()
            for graph in GRAPHS:
                optimise(Path(made) / route / f"{graph}.onnx", name / f"{graph}.onnx", level)
        for name in sorted(Path(made).iterdir()):
            for graph in GRAPHS:
                shared.save(onnx.load(name / f"{graph}.onnx"), folder / name.name / f"{graph}.onnx")


def optimise(path: Path, to: Path, level) -> None:
    options = ort.SessionOptions()
    options.graph_optimization_level, options.optimized_model_filepath = level, str(to)
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
