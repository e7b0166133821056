"""The variants of a bundle's graphs that are published: fp16 (inputs and outputs too), q8 (dynamic int8), q4 (MatMulNBits)."""

import contextlib
import io
from pathlib import Path

import onnx
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16


def write_variants(folder: Path) -> None:
    for name in ("vision_encoder", "embed_tokens", "decoder_model_merged"):
        path = folder / f"{name}.onnx"
        onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=False), folder / f"{name}_fp16.onnx")
        with contextlib.redirect_stdout(io.StringIO()):
            quantize_dynamic(path, folder / f"{name}_quantized.onnx", extra_options={"MatMulConstBOnly": True})
    quantizer = MatMulNBitsQuantizer(onnx.load(folder / "decoder_model_merged.onnx"), block_size=16, is_symmetric=True)
    quantizer.process()
    quantizer.model.save_model_to_file(str(folder / "decoder_model_merged_q4.onnx"), use_external_data_format=False)
