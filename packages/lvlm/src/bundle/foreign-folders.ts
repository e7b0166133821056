/** Recognises what people take for a bundle, and says what to do with it. */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';

/** A layout, by the names in its folder. */
interface Layout {
  readonly name: RegExp;
  readonly what: string;
}

const EXPORT =
  'Look on the hub for the same model with a folder onnx/ (names often begin with onnx-community/ or end in -ONNX), or export it with Optimum.';
const LAYOUTS: readonly Layout[] = [
  { name: /\.gguf$/i, what: `a model of llama.cpp (GGUF), which onnxruntime does not run. ${EXPORT}` },
  {
    name: /^genai_config\.json$/,
    what: 'a model for onnxruntime-genai, whose graphs are of another layout: run it with that library, or look on the hub for the same model in the layout of transformers.js.',
  },
  {
    name: /^QwenVL_[A-E].*\.onnx$/i,
    what: 'the layout of five graphs (QwenVL_A to QwenVL_E), which is for scripts of its own: take onnx-community/Qwen2-VL-2B-Instruct instead.',
  },
  {
    name: /\.safetensors$|^pytorch_model.*\.bin$|\.safetensors\.index\.json$/,
    what: `a model of PyTorch, without graphs for onnxruntime. ${EXPORT}`,
  },
];

/**
 * What a file or folder is that is no bundle, as the end of a sentence; null where it cannot be told. A folder
 * with graphs in onnx/ is none of these, whatever lies beside them.
 */
export async function foreignLayout(place: string): Promise<string | null> {
  const found = await stat(place).catch(() => null);
  if (!found) return null;
  const names = found.isDirectory() ? await namesIn(place) : [path.basename(place)];
  if (
    (await namesIn(path.join(place, 'onnx'))).some(
      (name) => name.endsWith('.onnx') && !/^QwenVL_/i.test(name),
    )
  )
    return null;
  const all = [...names, ...(await namesIn(path.join(place, 'onnx')))];
  return LAYOUTS.find(({ name }) => all.some((one) => name.test(one)))?.what ?? null;
}

/** Names of the graphs in a bundle's folder onnx/. */
export async function graphsIn(folder: string): Promise<string[]> {
  return (await namesIn(path.join(folder, 'onnx'))).filter((name) => name.endsWith('.onnx')).sort();
}

async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}
