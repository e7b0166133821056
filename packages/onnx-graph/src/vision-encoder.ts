/**
 * Finds a vision encoder in a graph by its structure: the pixels, the self-attention layers, the features
 * that the projector reads, and how many tokens before the patches are dropped on the way. No name of a node
 * or tensor is looked at, apart from the output's own.
 */
import type { NodeProto } from 'onnx-buf';
import { findAttentions, layout, type AttentionForm, type AttentionNodes } from './attention.js';
import { strand } from './dominators.js';
import { OnnxArgumentError, OnnxStructureError } from './errors.js';
import { attribute, FLOATS, GraphIndex, operatorName } from './graph-index.js';
import type { OnnxModel } from './model.js';
import { isPerToken } from './per-token.js';

/** Options of {@link findVisionEncoder}. */
export interface FindOptions {
  /**
   * The graph output with the image features. Default: the only output, or else the one called
   * `image_features`.
   */
  readonly output?: string;
}

/** One self-attention of the encoder. */
export interface AttentionLayer {
  /** How it is written in the graph. */
  readonly form: AttentionForm;
  /** Number of heads; absent where the graph does not say. */
  readonly heads?: number;
}

/** What {@link findVisionEncoder} found. B images, N patches, D channels. */
export interface VisionEncoder {
  /** Graph input with the pixels. */
  readonly input: string;
  /** Graph output that the projector writes, e.g. `image_features`. */
  readonly output: string;
  /**
   * Self-attention layers present in the graph, from the pixels on; layers behind the features included. An
   * exporter drops the layers that no output needs, so that these can be fewer than the model's configuration
   * says.
   */
  readonly layers: readonly AttentionLayer[];
  /** Index in `layers` of the attention that made the features: the one nearest upstream of the output. */
  readonly featuresLayer: number;
  /** Tokens before the first patch that the graph drops before the projector: 1 for CLS, 0 for none. */
  readonly prefixTokens: number;
  /** Whether a class token is put before the patches, and whether the features are without it. */
  readonly classToken: 'dropped' | 'kept' | 'absent';
  /** Tensor [B, N, D] that enters the projector. */
  readonly features: string;
  /** Absent where the output is the features themselves. */
  readonly projector?: {
    /**
     * Each output token depends on the features token of the same index alone: a selection may be applied
     * behind it.
     */
    readonly perToken: boolean;
  };
}

/** The encoder together with the nodes it was found at. */
export interface LocatedEncoder {
  readonly encoder: VisionEncoder;
  readonly index: GraphIndex;
  /** The nodes of `encoder.layers`. */
  readonly attentions: readonly AttentionNodes[];
  /** The nodes that everything goes through on the way from the pixels to the output. */
  readonly line: readonly NodeProto[];
}

/** Operators that end a residual branch. */
const SKIP_NORMALIZATIONS = new Set(['SkipLayerNormalization', 'SkipSimplifiedLayerNormalization']);
const NORMALIZATIONS = new Set(['LayerNormalization', 'SimplifiedLayerNormalization', 'RMSNormalization']);
/** Operators that apply weights; none stands between the features and the dropping of prefix tokens. */
const WEIGHTED = new Set(['MatMul', 'Gemm', 'Conv', 'FusedMatMul', 'MatMulNBits', 'MatMulInteger']);

/**
 * Finds the encoder, its attention layers, the features and the projector.
 *
 * @throws OnnxStructureError where the graph has no such structure, saying what was found in its place
 * @throws OnnxArgumentError where `output` is no output, or is missing and there are several
 * @throws OnnxFileError where the graph is not valid
 */
export function findVisionEncoder(model: OnnxModel, options: FindOptions = {}): VisionEncoder {
  return locateEncoder(model, options).encoder;
}

/** {@link findVisionEncoder} with the nodes. */
export function locateEncoder(model: OnnxModel, options: FindOptions): LocatedEncoder {
  const index = new GraphIndex(model);
  const output = chooseOutput(model, options.output);
  const input = pixelInput(index, output);
  const flow = index.dependents([input]);
  const attentions = findAttentions(index, flow);
  const nearest = nearestAttention(index, flow, attentions, output);
  const line = strand(index, [input], output);
  const { tensor, prefixTokens, residual } = locateFeatures(index, flow, line, nearest, output);
  const prefixed = line.slice(0, residual).some((node) => putsTokenBefore(node, flow));
  const encoder: VisionEncoder = {
    input,
    output,
    layers: attentions.map(({ form, heads }) => ({ form, ...(heads === undefined ? {} : { heads }) })),
    featuresLayer: attentions.indexOf(nearest),
    prefixTokens,
    classToken: prefixTokens > 0 ? 'dropped' : prefixed ? 'kept' : 'absent',
    features: tensor,
    ...(tensor === output ? {} : { projector: { perToken: isPerToken(index, tensor, output) } }),
  };
  return { encoder, index, attentions, line };
}

function chooseOutput({ graph, file }: OnnxModel, wanted: string | undefined): string {
  const names = graph.output.map(({ name }) => name);
  const chosen = wanted ?? (names.length === 1 ? names[0] : 'image_features');
  if (names.includes(chosen)) return chosen;
  throw new OnnxArgumentError(
    'output',
    JSON.stringify(wanted),
    `one of the outputs of ${file}: ${names.join(', ')}`,
  );
}

/**
 * The graph input whose values the output depends on; where masks or sizes are inputs too, the one of floats.
 */
function pixelInput(index: GraphIndex, output: string): string {
  const inputs = index.inputs.filter(({ name }) => index.dependents([name]).has(output));
  const floats = inputs.filter(({ name }) => FLOATS.has(index.elementType(name) ?? 0));
  const candidates = inputs.length === 1 ? inputs : floats;
  if (candidates.length === 1) return candidates[0].name;
  throw new OnnxStructureError(
    index.model.file,
    `the one input with the pixels that "${output}" is computed from`,
    `${inputs.length} inputs (${inputs.map(({ name }) => name).join(', ')}), ${floats.length} of them of floats`,
    'Name the output of the vision encoder, or export the encoder without the text model.',
  );
}

/** Of the attentions upstream of the output the one with no other behind it. */
function nearestAttention(
  index: GraphIndex,
  flow: ReadonlySet<string>,
  attentions: readonly AttentionNodes[],
  output: string,
): AttentionNodes {
  const lookedFor = `the self-attention nearest upstream of "${output}"`;
  const fail = (found: string, advice: string): OnnxStructureError =>
    new OnnxStructureError(index.model.file, lookedFor, found, advice);
  const upstream = new Set(index.ancestors([output]));
  const candidates = attentions.filter(({ result }) => upstream.has(result));
  const nearest = candidates.at(-1);
  if (!nearest) {
    throw fail(
      `none among its ${upstream.size} nodes (${operatorSummary([...upstream])})`,
      'Known are MatMul-Softmax-MatMul, ai.onnx.Attention, com.microsoft.Attention and com.microsoft.MultiHeadAttention: ' +
        'export the encoder with one of them (eager attention always works), without local functions.',
    );
  }
  const before = new Set(index.ancestors(nearest.result.output));
  const beside = candidates.find(({ result }) => !before.has(result));
  if (beside)
    throw fail('several attentions side by side', 'Only a single encoder can be reduced: export it alone.');
  const [query, keys] = (nearest.scores ?? nearest.node).input.map((input) =>
    projectedFrom(index, flow, input),
  );
  if (
    nearest.form !== 'com.microsoft.Attention' &&
    query !== undefined &&
    keys !== undefined &&
    query !== keys
  ) {
    throw fail(
      'a cross-attention, whose queries and keys come from different tokens',
      'A resampler mixes the patches, so that single ones cannot be dropped; use an encoder with a linear or MLP projector.',
    );
  }
  return nearest;
}

/** The tensor that queries or keys were projected from, as far as it can be told. */
function projectedFrom(index: GraphIndex, flow: ReadonlySet<string>, operand: string): string | undefined {
  let { source } = layout(index, operand);
  for (let node = index.producer(source); node; node = index.producer(source)) {
    const data = node.input.filter((input) => flow.has(input));
    if (data.length !== 1) return undefined;
    if (WEIGHTED.has(node.opType)) return data[0];
    if (node.opType !== 'Add') return undefined;
    source = data[0];
  }
  return undefined;
}

interface Features {
  readonly tensor: string;
  readonly prefixTokens: number;
  /** Position in the strand of the last residual connection of the encoder. */
  readonly residual: number;
}

/**
 * The features: behind the attention nearest to the output come the residual connection around it and the one
 * around its MLP; behind those, before any weights, perhaps a LayerNorm and the Slice or Gather that drops
 * the prefix tokens. With that Slice the features are what it leaves; without it, the normalised (if so)
 * output of the last connection.
 */
function locateFeatures(
  index: GraphIndex,
  flow: ReadonlySet<string>,
  line: readonly NodeProto[],
  nearest: AttentionNodes,
  output: string,
): Features {
  const behind = index.dependents(nearest.result.output);
  const endsBranch = (node: NodeProto): boolean =>
    node.output.some((tensor) => behind.has(tensor)) && isResidual(node, flow);
  const around = line.findIndex(endsBranch);
  if (around < 0) {
    throw new OnnxStructureError(
      index.model.file,
      `the residual connection between the last attention and "${output}"`,
      `none that everything goes through (${operatorSummary(line)})`,
      'Features put together from several layers, or an encoder without residual connections, are not supported.',
    );
  }
  const drop = line.findIndex((node, i) => i > around && droppedPrefix(index, node) > 0);
  const next = line.findIndex((node, i) => i > around && endsBranch(node));
  const residual = next > 0 && (drop < 0 || next < drop) ? next : around;
  const weights = line.findIndex((node, i) => i > residual && WEIGHTED.has(node.opType));
  const dropping = drop > residual && (weights < 0 || drop < weights) ? line[drop] : undefined;
  const last = dropping ?? line[normalizationEnd(index, line, residual)];
  const tensors = usedOutputs(index, last, output);
  if (tensors.length !== 1) {
    throw new OnnxStructureError(
      index.model.file,
      'one tensor of features between the encoder and the projector',
      `${tensors.length} (${tensors.join(', ')})`,
      'Export the model without graph optimisation.',
    );
  }
  return { tensor: tensors[0], prefixTokens: dropping ? droppedPrefix(index, dropping) : 0, residual };
}

/** Whether a node adds two tensors of the flow, as the end of a residual branch does. */
export function isResidual(node: NodeProto, flow: ReadonlySet<string>): boolean {
  return (
    SKIP_NORMALIZATIONS.has(node.opType) ||
    (node.opType === 'Add' && node.input.every((tensor) => flow.has(tensor)))
  );
}

/** Position of the last node of a normalisation that directly follows position `i`, or `i`. */
function normalizationEnd(index: GraphIndex, line: readonly NodeProto[], i: number): number {
  const next = line.at(i + 1);
  if (next === undefined) return i;
  if (NORMALIZATIONS.has(next.opType)) return i + 1;
  // Written out (before opset 17): Sub(x, ReduceMean(x)) ... Div, then Mul and Add with weight and bias.
  if (next.opType !== 'Sub' || index.producer(next.input[1])?.opType !== 'ReduceMean') return i;
  const operators = line.slice(i + 1, i + 5).map((node) => node.opType);
  const written = ['Sub', 'Div', 'Mul', 'Add'].findIndex((opType, k) => operators[k] !== opType);
  return i + (written < 0 ? 4 : written);
}

/** The tensors of a node that the rest of the way to the output reads. */
function usedOutputs(index: GraphIndex, node: NodeProto, output: string): string[] {
  const readers = new Set(index.ancestors([output]));
  return node.output.filter(
    (tensor) => tensor === output || index.consumers(tensor).some((reader) => readers.has(reader)),
  );
}

/**
 * How many tokens (axis 1) a Slice or Gather drops from the front and nothing else; 0 for every other node.
 */
export function droppedPrefix(index: GraphIndex, node: NodeProto): number {
  if (node.opType === 'Gather' && Number(attribute(node, 'axis')?.i ?? 0) === 1) {
    const [first = 0, ...more] = index.values(node.input[1]) ?? [];
    return more.length > 0 && more.every((value, i) => value === first + i + 1) ? first : 0;
  }
  if (node.opType !== 'Slice') return 0;
  const [starts, ends, axes, steps] = node.input.slice(1, 5).map((input) => index.values(input));
  const at = (axes ?? starts?.map((_, i) => i))?.indexOf(1) ?? -1;
  const start = starts?.[at] ?? 0;
  const end = ends?.[at] ?? 0;
  return start > 0 && end > start && (steps?.[at] ?? 1) === 1 ? start : 0;
}

/** Whether a node puts constant tokens before those of the image. */
function putsTokenBefore(node: NodeProto, flow: ReadonlySet<string>): boolean {
  return (
    node.opType === 'Concat' &&
    Number(attribute(node, 'axis')?.i ?? 0) === 1 &&
    !flow.has(node.input[0] ?? '')
  );
}

/** Operators by number, the commonest first. */
function operatorSummary(nodes: readonly NodeProto[]): string {
  const counts = new Map<string, number>();
  for (const node of nodes) counts.set(operatorName(node), (counts.get(operatorName(node)) ?? 0) + 1);
  const sorted = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 12);
  return sorted.map(([name, count]) => `${count} ${name}`).join(', ');
}
