/**
 * The vision encoder: the bundle's own, or one with signals and sites, cut at its projector, so that plans
 * apply between the parts.
 */
import {
  resolveMerging,
  selectionPlan,
  signalId,
  type GivenSignal,
  type MergeAmount,
  type ReductionPlan,
  type ResolvedMerging,
  type SignalRequest,
} from '@foveate/core';
import { OnnxGraphError, serializeModel } from '@foveate/onnx-graph';
import type { InferenceSession, Tensor } from 'onnxruntime-common';
import type { PixelValues } from '../bundle/preprocessing.js';
import type { EncoderFeeds } from '../families/family.js';
import { BundleError, WorkerError } from '../platform/errors.js';
import type { Features, Rule, VisionRequest } from './api.js';
import { lastMerge, mergedPlan } from './merged-plan.js';
import {
  OUTPUT,
  patchEncoder,
  type EncoderModel,
  type EncoderPart,
  type PatchedEncoder,
} from './encoder-parts.js';
import type { Form } from './forms.js';
import { resolveInTurn } from './rules.js';
import { vector } from './sequence.js';
import { floats, run, type Sessions } from './sessions.js';

/** What one crop became. */
export interface EncodedCrop {
  /**
   * Of the bundle's own encoder what the language model reads, otherwise what enters the projector; before a
   * cut the hidden states of prefix tokens (CLS) and patches.
   */
  readonly features: Features;
  /** How many of the rows are no patches; they come first. */
  readonly prefixTokens: number;
  readonly signals: readonly GivenSignal[];
  /** What became of the patches on the way: plans of the graph's rules. */
  readonly plans: readonly ReductionPlan[];
  /** From the tokens that `signals` are about to those of the features; null: they are the same. */
  readonly fold: ReductionPlan | null;
}

/** An open encoder. */
export interface Encoder extends Form {
  /** Whether attention maps have the class token first. */
  readonly classToken: boolean;
  /** Parts that follow the first. */
  readonly cuts: number;
  /**
   * From pixels to the features or, where the caller's thread decides inside the encoder, to the first cut.
   * @param rules those that the form has, with the budgets of this call
   * @param merging how much the form merges in this call; null: it has no such rule
   */
  encode(pixels: PixelValues, rules: readonly Rule[], merging?: MergeAmount | null): Promise<EncodedCrop>;
  /**
   * From a cut on, counted from 0, to the next or to the features: from hidden states of as many patches as
   * are left.
   * @param sizes patches that each of those left stands for; absent: one
   */
  resume(cut: number, hidden: Features, sizes?: Float32Array): Promise<EncodedCrop>;
  /** From features (reduced or not) to what the language model reads. */
  project(features: Features): Promise<Features>;
}

/** What an encoder is opened with. */
export interface EncoderSettings extends EncoderModel {
  /** Path of the bundle's graph, for messages. */
  readonly file: string;
  readonly weightBytes: number;
  /** Pixels of a side of a patch. */
  readonly patchSize: number;
  /** What the encoder reads of a crop. */
  readonly feeds: (pixels: PixelValues) => EncoderFeeds;
}

/**
 * The bundle's own encoder, untouched.
 * @throws BundleError, PlatformError
 */
export async function openOriginalEncoder(sessions: Sessions, settings: EncoderSettings): Promise<Encoder> {
  const { file, weightBytes } = settings;
  const session = await sessions.open(serializeModel(settings.model), file);
  return {
    weightBytes,
    classToken: false,
    cuts: 0,
    encode: async (pixels) => {
      const features = rows(await run(session, fed(sessions, session, settings.feeds(pixels))), OUTPUT);
      return { features, prefixTokens: 0, signals: [], plans: [], fold: null };
    },
    resume: () => Promise.reject(new WorkerError("The bundle's own encoder is not cut.")),
    project: async (features) => features,
    release: () => session.release(),
  };
}

/**
 * One string for an encoder's form: the same for encoders with the same parts and outputs, whose rules may
 * keep other numbers of patches.
 */
export function encoderFormId({ sites, merging, signals }: VisionRequest): string {
  const ids = (requests: readonly SignalRequest[]): string => requests.map(signalId).sort().join(' ');
  const inside = sites.map(({ layer, rule, signals: read }) =>
    rule ? `${layer}: by ${signalId(rule.score)}` : `${layer}: ${ids(read)}`,
  );
  const every = merging ? [merging.amount ? 'merging' : `cut in every layer: ${ids(merging.signals)}`] : [];
  return ['encoder', ...inside, ...every, ids(signals)].join(' | ');
}

/**
 * The bundle's encoder with further outputs, cut at the projector and where the caller's thread decides
 * inside. Its weights stay in the bundle's files.
 * @throws BundleError, PlatformError, SignalUnavailableError, UnsupportedReducerError
 */
export async function openPatchedEncoder(
  sessions: Sessions,
  settings: EncoderSettings,
  request: VisionRequest,
): Promise<Encoder> {
  const { file, weightBytes } = settings;
  const { parts, projector, classToken } = patchedEncoder(settings, request);
  const opened: OpenPart[] = [];
  for (const part of parts) {
    opened.push({
      ...part,
      session: await sessions.open(serializeModel(part.model), `${file} with signals`),
    });
  }
  const [first, ...later] = opened;
  const projection =
    projector && (await sessions.open(serializeModel(projector.model), `the projector of ${file}`));
  return {
    weightBytes,
    classToken,
    cuts: later.length,
    encode: (pixels, rules, merging = null) =>
      merging
        ? encodeMerging(sessions, first, pixels, merging, settings)
        : encode(sessions, first, pixels, rules, settings),
    resume: async (cut, hidden, sizes) => {
      const { session, input, ...part } = later[cut];
      const feeds = { [input]: tokenTensor(sessions, hidden) };
      if (part.sizes !== null) {
        const patches = hidden.length - first.prefixTokens;
        feeds[part.sizes] = vector(sessions.Tensor, [...(sizes ?? new Float32Array(patches).fill(1))]);
      }
      return encodedBy(part, await run(session, feeds));
    },
    project: async (tokens) =>
      projection
        ? rows(await run(projection, { [projector.features]: tokenTensor(sessions, tokens) }), OUTPUT)
        : tokens,
    release: async () => {
      for (const { session } of opened) await session.release();
      await projection?.release();
    },
  };
}

/** An open part. */
type OpenPart = EncoderPart & { readonly session: InferenceSession };

/**
 * Runs the part that reads pixels; its rules are told how many patches to keep, by how many there will be.
 */
async function encode(
  sessions: Sessions,
  { session, ...part }: OpenPart,
  pixels: PixelValues,
  rules: readonly Rule[],
  { patchSize, feeds: feedsOf }: EncoderSettings,
): Promise<EncodedCrop> {
  const runWith = (counts: readonly number[]): Promise<Record<string, Tensor>> => {
    const keep = part.prunings.map(({ keepCount }, i): [string, Tensor] => [
      keepCount,
      vector(sessions.Tensor, [counts[i]]),
    ]);
    return run(session, { ...fed(sessions, session, feedsOf(pixels)), ...Object.fromEntries(keep) });
  };
  if (rules.length === 0) return encodedBy(part, await runWith([]));
  const expected = Math.floor(pixels.height / patchSize) * Math.floor(pixels.width / patchSize);
  let budgets = resolveInTurn(rules, expected);
  let outputs = await runWith(budgets.map(({ count }) => count));
  const patches = floats(outputs, part.prunings[0].scores).length;
  if (patches !== expected) {
    budgets = resolveInTurn(rules, patches); // an encoder that merges patches on its way in
    outputs = await runWith(budgets.map(({ count }) => count));
  }
  const plans = part.prunings.map(({ keptPatches, scores }, i) =>
    selectionPlan(
      Array.from(outputs[keptPatches].data as BigInt64Array, Number),
      floats(outputs, scores).length,
      { warnings: budgets[i].warnings },
    ),
  );
  return { ...encodedBy(part, outputs), plans };
}

/** Runs the one part of an encoder that merges in every layer. */
async function encodeMerging(
  sessions: Sessions,
  { session, merging, ...part }: OpenPart,
  pixels: PixelValues,
  amount: MergeAmount,
  { patchSize, feeds: feedsOf }: EncoderSettings,
): Promise<EncodedCrop> {
  if (!merging) throw new WorkerError('An encoder that merges nothing was told to.');
  const feeds = fed(sessions, session, feedsOf(pixels));
  const resolved = (patches: number): ResolvedMerging => resolveMerging(amount, patches, merging.layers);
  const runWith = ({ counts }: ResolvedMerging): Promise<Record<string, Tensor>> =>
    run(session, { ...feeds, [merging.mergeCounts]: vector(sessions.Tensor, counts) });
  let made = resolved(Math.floor(pixels.height / patchSize) * Math.floor(pixels.width / patchSize));
  let outputs = await runWith(made);
  const numbers = (name: string): number[] => Array.from(outputs[name].data as BigInt64Array, Number);
  const patches = numbers(merging.owners).length;
  if (resolved(patches).counts.join() !== made.counts.join()) {
    made = resolved(patches); // an encoder that merges patches on its way in
    outputs = await runWith(made);
  }
  const [attended, owners] = [numbers(merging.attended), numbers(merging.owners)];
  return {
    ...encodedBy(part, outputs),
    plans: [mergedPlan(owners, made.warnings)],
    fold: lastMerge(attended, owners),
  };
}

/** What a part put out. */
function encodedBy(
  { output, prefixTokens, signals }: Pick<EncoderPart, 'output' | 'prefixTokens' | 'signals'>,
  outputs: Record<string, Tensor>,
): EncodedCrop {
  return {
    features: rows(outputs, output),
    prefixTokens,
    signals: signals.map(({ request, output: name }) => ({ ...request, values: floats(outputs, name) })),
    plans: [],
    fold: null,
  };
}

/** [1, length, D] */
function tokenTensor({ Tensor }: Sessions, { data, length }: Features): Tensor {
  return new Tensor('float32', data, [1, length, data.length / length]);
}

/**
 * The graphs of an encoder in parts; none is opened.
 * @throws BundleError where the graph's structure does not allow it; SignalUnavailableError, UnsupportedReducerError
 */
export function patchedEncoder(model: EncoderModel, request: VisionRequest): PatchedEncoder {
  try {
    return patchEncoder(model, request);
  } catch (cause) {
    if (!OnnxGraphError.isInstance(cause)) throw cause;
    throw new BundleError(`The vision encoder cannot be patched. ${cause.message}`, { cause });
  }
}

/** [1, N, D] or [N, D], float32. */
function rows(outputs: Record<string, Tensor>, name: string): Features {
  const data = floats(outputs, name);
  const [length, width] = outputs[name].dims.slice(-2);
  if (length * width !== data.length)
    throw new BundleError(
      `The encoder's output ${name} has the shape [${outputs[name].dims.join(', ')}]; this runner reads [1, N, D].`,
    );
  return { data, length };
}

/** Of what there is of a crop what a session takes. */
function fed({ Tensor }: Sessions, session: InferenceSession, feeds: EncoderFeeds): Record<string, Tensor> {
  const tensors: Record<string, Tensor> = {};
  for (const input of session.inputMetadata) {
    if (!Object.hasOwn(feeds, input.name)) continue; // of the patch
    const { type, data, dims } = feeds[input.name];
    if (input.isTensor) checkShape(input.name, input.shape, dims);
    tensors[input.name] = new Tensor(type, data, dims);
  }
  return tensors;
}

/** @throws BundleError where an encoder takes other inputs, or pictures of another size, than its family says */
export function checkInputs(
  file: string,
  inputs: readonly { readonly name: string; readonly shape?: Shape | null }[],
  feeds: EncoderFeeds,
): void {
  const others = inputs.filter(({ name }) => !Object.hasOwn(feeds, name));
  if (others.length > 0 || inputs.length === 0) {
    throw new BundleError(
      `${file} takes ${inputs.map(({ name }) => name).join(', ')}; encoders of this family take ${Object.keys(feeds).join(', ')}.`,
    );
  }
  for (const { name, shape } of inputs) checkShape(name, shape ?? [], feeds[name].dims);
}

/** What a graph declares of an axis: its size, its name, or nothing. */
type Shape = readonly (number | string | null)[];

function checkShape(name: string, declared: Shape, dims: readonly number[]): void {
  const isOther = (axis: number): boolean =>
    typeof declared[axis] === 'number' && declared[axis] > 0 && declared[axis] !== dims[axis];
  if (![...declared.keys()].some(isOther)) return;
  throw new BundleError(
    `The encoder reads ${name} of ${declared.join(' x ')}, but preprocessor_config.json makes ${dims.join(' x ')} (height before width).`,
  );
}
