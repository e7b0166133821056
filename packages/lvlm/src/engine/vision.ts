/** From the crops of an image to the rows that the language model reads: encode, have the tokens reduced, project. */
import {
  applyPlan,
  features as featuresSignal,
  isIdentity,
  projectedFeatures,
  signalId,
  textEmbeddings,
  type GivenSignal,
  type ReductionPlan,
  type SignalRequest,
} from '@foveate/core';
import type { PixelValues } from '../bundle/preprocessing.js';
import { familyOf } from '../families/index.js';
import type { CropArrangement, FamilySettings } from '../families/family.js';
import type {
  CallerApi,
  CropOutcome,
  CropSignal,
  CropTokens,
  Features,
  GenerateRequest,
  PreparedImage,
  ReducedCrop,
  VisionRequest,
} from './api.js';
import type { Awaited, SignalReader } from './awaited.js';
import type { EncodedCrop, Encoder } from './encoder.js';
import { imageRows, leftOf, type EmbeddingRow } from './image-rows.js';

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
  readonly crops: readonly CropOutcome[];
  readonly rows: readonly EmbeddingRow[];
  readonly visionMs: number;
  readonly reduceMs: number;
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
      const crops: CropOutcome[] = [];
      const reduced: ReducedCrop[] = [];
      for (const [crop, pixels] of prepared.crops.entries()) {
        stopIfAsked();
        const start = now();
        const key = request.reuseEncoding ? { imageHash: prepared.imageHash, crop } : null;
        const encoded = await encodeCrop(encoder, pixels, key);
        const encodedAt = now();
        stopIfAsked(); // the last look at the flag before waiting for the other thread
        const arrangement = arrange(prepared, encoded.features.length, family)[crop];
        const { grid, region } = arrangement;
        const left = leftOf(encoded.features, arrangement);
        const { features, plans } =
          request.vision && left.length > 0
            ? await reduceCrop(encoder, { ...encoded, image, crop, arrangement, left }, context)
            : { features: left, plans: [] };
        const reducedAt = now();
        const rows = features.length > 0 ? await encoder.project(features) : features;
        times.vision += encodedAt - start + (now() - reducedAt);
        times.reduce += reducedAt - encodedAt;
        crops.push({ grid, region, inputTokens: left.length });
        reduced.push({ features: rows, plans: plans.filter((plan) => !isIdentity(plan)) });
      }
      const rows = imageRows(prepared, reduced, family);
      return { crops, rows, visionMs: times.vision, reduceMs: times.reduce };
    },
  };
}

function arrange({ size, crops }: PreparedImage, tokens: number, family: FamilySettings): CropArrangement[] {
  const known = crops.map(({ width, height }) => ({ pixels: { width, height }, tokens }));
  return familyOf(family).arrange(size, known, family);
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

/** Has the caller's thread decide about a crop's tokens, and applies what it decided. */
async function reduceCrop(
  encoder: Encoder,
  {
    image: { request, index, text },
    crop,
    arrangement,
    left,
    features,
    signals,
  }: EncodedCrop & { image: ImageToRead; crop: number; arrangement: CropArrangement; left: Features },
  { caller, awaited }: VisionContext,
): Promise<ReducedCrop> {
  const { length } = features;
  const readers = readersOf(encoder, features, text, signals);
  const message: CropTokens = {
    ...{ image: index, crop, length, left: arrangement.left, grid: arrangement.grid },
    classToken: encoder.classToken,
    signals: [
      ...signals.map((signal) => (signal.signal.shape.length === 1 ? signal : held(signal))),
      ...[featuresSignal(), projectedFeatures(), textEmbeddings()].map(held),
    ],
  };
  return awaited.during({ length, signals: readers }, async () => {
    if (request.handOut) return caller.reduceCrop(message, left);
    const plans = await caller.planCrop(message);
    return { features: plans.reduce(applyTo, left), plans };
  });
}

/** A signal that stays here until it is asked for. */
function held({ signal, layer, parameters }: SignalRequest): CropSignal {
  return { signal, ...(layer !== undefined && { layer }), parameters, values: null };
}

/** What may be asked about a crop whose plans are awaited. */
function readersOf(
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
