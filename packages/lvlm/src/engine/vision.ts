/** From the crops of an image to the rows that the language model reads: encode, have the tokens reduced, project, put in order. */
import {
  applyPlan,
  features as featuresSignal,
  projectedFeatures,
  selectionPlan,
  signalId,
  textEmbeddings,
  type GivenSignal,
  type ReductionPlan,
  type SignalRequest,
} from '@foveate/core';
import type { PixelValues } from '../bundle/preprocessing.js';
import { familyOf } from '../families/index.js';
import type { CropArrangement, FamilySettings, ImageArrangement, Newline } from '../families/family.js';
import type {
  CallerApi,
  CropOutcome,
  CropTokens,
  Features,
  GenerateRequest,
  PreparedImage,
  StageSignal,
  TokenStage,
  VisionRequest,
} from './api.js';
import type { Awaited, SignalReader } from './awaited.js';
import type { EncodedCrop, Encoder } from './encoder.js';

/** Encodes and reduces images. */
export interface Vision {
  encoderFor(request: VisionRequest | null): Promise<Encoder>;
  /** @throws what the caller's thread throws, BundleError, WorkerError */
  readImage(image: ImageToRead, context: VisionContext): Promise<ReadImage>;
}

/** An image, and the call that it is part of. */
interface ImageToRead {
  readonly index: number;
  readonly prepared: PreparedImage;
  readonly request: GenerateRequest;
  /** [T, D] of the prompt's text. */
  readonly text: Float32Array;
}

/** What reading needs of the call around it. */
export interface VisionContext {
  readonly now: () => number;
  readonly caller: CallerApi;
  readonly awaited: Awaited;
  readonly stopIfAsked: () => void;
}

/** What the language model reads of an image. */
export interface ReadImage {
  readonly rows: Features;
  /** Of each row the crop and the number among the crop's tokens that are left; null: a newline, which is no visual token. */
  readonly origins: readonly (RowOrigin | null)[];
  readonly crops: readonly CropOutcome[];
  readonly visionMs: number;
  readonly reduceMs: number;
}

/** Where a row comes from. */
interface RowOrigin {
  readonly crop: number;
  readonly token: number;
}

/** A crop behind its reducers. */
interface ReadCrop {
  /** What the language model reads. */
  readonly rows: Features;
  /** [rows] which of the encoder's tokens each stands for. */
  readonly anchors: readonly number[];
  /** Tokens before any reducer, those left out that unpadding removes. */
  readonly inputTokens: number;
}

/** @param encoderFor opens the form of the encoder that a request needs */
export function createVision(encoderFor: Vision['encoderFor'], family: FamilySettings): Vision {
  const encodeCrop = encodingOnce();
  return {
    encoderFor,
    readImage: async (image, context) => {
      const { prepared, request } = image;
      const { now, stopIfAsked } = context;
      const encoder = await encoderFor(request.vision);
      const times = { vision: 0, reduce: 0 };
      const crops: { encoded: EncodedCrop; read: ReadCrop }[] = [];
      const sizes = prepared.crops.map(({ width, height }) => ({ width, height }));
      for (const [crop, pixels] of prepared.crops.entries()) {
        stopIfAsked();
        const start = now();
        const key = request.reuseEncoding ? { imageHash: prepared.imageHash, crop } : null;
        const encoded = await encodeCrop(encoder, pixels, key);
        const encodedAt = now();
        stopIfAsked(); // the last look at the flag before waiting for the other thread
        const arranged = arrange(prepared, sizes, encoded.features.length, family).crops[crop];
        const left = restrict(encoded, arranged);
        const reduced = request.vision?.atFeatures
          ? await reduceCrop(encoder, { ...left, image, crop, arranged, encoded }, context)
          : { features: left.features, plans: [] };
        const reducedAt = now();
        const rows = await encoder.project(reduced.features);
        times.vision += encodedAt - start + (now() - reducedAt);
        times.reduce += reducedAt - encodedAt;
        const anchors = reduced.plans.reduce(
          (before, plan) => Array.from(plan.anchors, (a) => before[a]),
          left.anchors,
        );
        crops.push({ encoded, read: { rows, anchors, inputTokens: left.features.length } });
      }
      const tokens = crops[0].encoded.features.length;
      const arrangement = arrange(prepared, sizes, tokens, family);
      return {
        ...assemble(
          crops.map(({ read }) => read),
          arrangement,
          request,
        ),
        crops: crops.map(({ read }, c): CropOutcome => {
          const { grid, region } = arrangement.crops[c];
          return { grid, region, inputTokens: read.inputTokens, graphPlans: [] };
        }),
        visionMs: times.vision,
        reduceMs: times.reduce,
      };
    },
  };
}

function arrange(
  { size }: PreparedImage,
  crops: readonly { width: number; height: number }[],
  tokens: number,
  family: FamilySettings,
): ImageArrangement {
  return familyOf(family).arrange(
    size,
    crops.map((pixels) => ({ pixels, tokens })),
    family,
  );
}

/** Which crop of which image, where it need not be encoded again. */
interface CropKey {
  readonly imageHash: string;
  readonly crop: number;
}

/**
 * Encodes a crop, unless the encoder's last image was the same and the caller names it. Signals of the prompt are none of it, so nothing of another
 * question comes back.
 */
export function encodingOnce(): (
  encoder: Pick<Encoder, 'encode'>,
  pixels: PixelValues,
  key: CropKey | null,
) => Promise<EncodedCrop> {
  const lastOf = new WeakMap<
    object,
    { readonly imageHash: string; readonly crops: Map<number, EncodedCrop> }
  >();
  return async (encoder, pixels, key) => {
    if (key === null) {
      lastOf.delete(encoder);
      return encoder.encode(pixels);
    }
    const last = lastOf.get(encoder);
    const { crops } = last?.imageHash === key.imageHash ? last : { crops: new Map<number, EncodedCrop>() };
    lastOf.set(encoder, { imageHash: key.imageHash, crops });
    const encoded = crops.get(key.crop) ?? (await encoder.encode(pixels));
    crops.set(key.crop, encoded);
    return encoded;
  };
}

/** A crop's tokens that are left after unpadding. */
interface LeftTokens {
  readonly features: Features;
  /** Which of the encoder's tokens they are. */
  readonly anchors: readonly number[];
  /** Null: all. */
  readonly plan: ReductionPlan | null;
}

function restrict({ features }: EncodedCrop, { tokens }: CropArrangement): LeftTokens {
  const all = tokens ?? Array.from({ length: features.length }, (_, i) => i);
  if (tokens === null) return { features, anchors: all, plan: null };
  const plan = selectionPlan(tokens, features.length);
  return { features: applyTo(features, plan), anchors: all, plan };
}

/** Has the caller's thread decide about a crop's tokens, and applies what it decided. */
async function reduceCrop(
  encoder: Encoder,
  left: LeftTokens & { image: ImageToRead; crop: number; arranged: CropArrangement; encoded: EncodedCrop },
  { caller, awaited }: VisionContext,
): Promise<{ features: Features; plans: readonly ReductionPlan[] }> {
  const { image, crop, features, encoded } = left;
  const { request, index } = image;
  const message: CropTokens = {
    image: index,
    crop,
    site: request.vision?.sites.length ?? 0,
    stages: stagesOf(left, encoded.signals),
    classToken: encoder.classToken,
  };
  const signals = readers(encoder, features, image.text, encoded.signals);
  return awaited.during({ length: features.length, signals }, async () => {
    if (request.handOut) return caller.reduceCrop(message, features);
    const plans = await caller.planCrop(message);
    return { plans, features: plans.reduce(applyTo, features) };
  });
}

/** The tokens out of the encoder and, where fewer are left of them, these. Signals are about the former, and follow the latter by core's rules. */
function stagesOf(
  { plan, features, arranged: { grid } }: LeftTokens & { arranged: CropArrangement },
  signals: readonly GivenSignal[],
): TokenStage[] {
  const own = [featuresSignal(), projectedFeatures(), textEmbeddings()].map(held);
  const given = signals.map((signal): StageSignal =>
    signal.signal.shape.length === 1 ? signal : held(signal),
  );
  if (!plan) return [{ length: features.length, grid, signals: [...given, ...own], plan: null }];
  return [
    { length: plan.inputLength, grid: null, signals: given, plan: { ...plan, ...(grid && { grid }) } },
    { length: features.length, grid, signals: own, plan: null },
  ];
}

/** A signal that stays here until it is asked for. */
function held({ signal, layer, parameters }: SignalRequest): StageSignal {
  return { signal, ...(layer !== undefined && { layer }), parameters, values: null };
}

/** What may be asked about a crop whose plans are awaited. */
function readers(
  encoder: Encoder,
  features: Features,
  text: Float32Array,
  signals: readonly GivenSignal[],
): Map<string, SignalReader> {
  return new Map<string, SignalReader>([
    ...signals.map((signal): [string, SignalReader] => [signalId(signal), () => signal.values]),
    [signalId(featuresSignal()), () => features.data],
    [signalId(projectedFeatures()), async () => (await encoder.project(features)).data],
    [signalId(textEmbeddings()), () => text],
  ]);
}

function applyTo({ data }: Features, plan: ReductionPlan): Features {
  return { data: applyPlan(plan, data), length: plan.outputLength };
}

/** The rows of all crops in the order of their places, with the newlines that are left between them. */
function assemble(
  crops: readonly ReadCrop[],
  { crops: arranged, newlines }: ImageArrangement,
  request: GenerateRequest,
): Pick<ReadImage, 'rows' | 'origins'> {
  const [first] = crops;
  const width = first.rows.data.length / first.rows.length;
  const tokens = crops.flatMap(({ rows, anchors }, crop) =>
    anchors.map((anchor, token) => ({
      place: arranged[crop].places?.[anchor] ?? 0,
      origin: { crop, token },
      row: rows.data.subarray(token * width, (token + 1) * width),
    })),
  );
  if (arranged[0].places === null) return { rows: first.rows, origins: tokens.map(({ origin }) => origin) };
  tokens.sort((a, b) => a.place - b.place);
  const all = [...tokens, ...newlinesLeft(newlines, tokens, request)].sort((a, b) => a.place - b.place);
  const data = new Float32Array(all.length * width);
  for (const [i, { row }] of all.entries()) data.set(row, i * width);
  return { rows: { data, length: all.length }, origins: all.map(({ origin }) => origin) };
}

function newlinesLeft(
  newlines: Newline | null,
  tokens: readonly { readonly place: number }[],
  { newlines: policy, vision }: GenerateRequest,
): { place: number; origin: null; row: Float32Array }[] {
  if (!newlines) return [];
  const row = Float32Array.from(newlines.embedding);
  const all = newlines.places.map((place) => ({ place, origin: null, row }));
  if (vision === null || policy === 'keep') return all;
  if (policy === 'drop') return [];
  return all.filter(({ place }, i) => {
    const before = i === 0 ? -1 : newlines.places[i - 1];
    const start = Math.max(before, newlines.from - 1);
    return tokens.some((token) => token.place > start && token.place < place);
  });
}
