/**
 * From the crops of an image to the rows that the language model reads: encode, have the tokens reduced,
 * project.
 */
import {
  applyPlan,
  atFeatures,
  composePlans,
  features as featuresSignal,
  isIdentity,
  projectedFeatures,
  signalId,
  type GivenSignal,
  type Grid,
  type MergeAmount,
  type ReductionPlan,
  type VisionSite,
} from '@foveate/core';
import type { PixelValues } from '../bundle/preprocessing.js';
import { familyOf } from '../families/index.js';
import type { CropArrangement, FamilySettings } from '../families/family.js';
import type {
  CallerApi,
  CropOutcome,
  CropTokens,
  Features,
  GenerateRequest,
  PreparedImage,
  ReducedCrop,
  Rule,
  VisionRequest,
} from './api.js';
import { held, sent, type Awaited, type SignalReader } from './awaited.js';
import type { EncodedCrop, Encoder } from './encoder.js';
import { imageRows, inPlace, leftOf, type ImageRows } from './image-rows.js';
import { exactMeans, sizesBehind } from './merged-plan.js';
import { partialPlan } from './partial-plan.js';
import { promptReaders, textSignals } from './prompt-signals.js';

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
  /** [ids.length, D] of tokens of text. */
  readonly embed: (ids: readonly number[]) => Promise<Float32Array>;
  readonly stopIfAsked: () => void;
}

/** What the language model reads of an image. */
export interface ReadImage extends ImageRows {
  /** Token ids of what is written for it. */
  readonly written: readonly number[];
  readonly crops: readonly CropOutcome[];
  /** Of each row the tokens that it stands for, where attention is calibrated by them and any has several. */
  readonly sizes: Float32Array | null;
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
      const clock: Clock = { now, visionMs: 0, reduceMs: 0 };
      const crops: CropOutcome[] = [];
      const reduced: ReducedCrop[] = [];
      for (const group of rankedTogether(prepared, request)) {
        const passed: PassedCrop[] = [];
        for (const crop of group) {
          stopIfAsked();
          const arrangeCrop = (tokens: number): CropArrangement => arrange(prepared, tokens, family)[crop];
          const one = { image, crop, encoder, arrange: arrangeCrop };
          passed.push(await passEncoder(one, encodeCrop, clock, context));
        }
        const made = await timed(clock, 'reduceMs', () => reduceCrops(image, encoder, passed, context));
        for (const [i, { features, plans }] of made.entries()) {
          const { outcome } = passed[i];
          const rows = await timed(clock, 'visionMs', async () =>
            features.length > 0 ? encoder.project(features) : features,
          );
          crops.push(outcome);
          const all = [...outcome.encoderPlans, ...plans].filter((plan) => !isIdentity(plan));
          reduced.push({ features: rows, plans: all });
        }
      }
      const rows = await imageRows(prepared, reduced, family, context.embed);
      return {
        ...(request.calibration ? inPlace(rows, reduced) : { ...rows, sizes: null }),
        written: prepared.written,
        crops,
        visionMs: clock.visionMs,
        reduceMs: clock.reduceMs,
      };
    },
  };
}

/** Numbers of the crops: those whose tokens are ranked together are in memory together. */
function rankedTogether({ crops }: PreparedImage, { per, vision }: GenerateRequest): number[][] {
  const numbers = [...crops.keys()];
  return per === 'image' && vision ? [numbers] : numbers.map((crop) => [crop]);
}

/** Milliseconds spent so far. */
interface Clock {
  readonly now: () => number;
  visionMs: number;
  reduceMs: number;
}

async function timed<T>(clock: Clock, part: 'visionMs' | 'reduceMs', work: () => Promise<T>): Promise<T> {
  const start = clock.now();
  try {
    return await work();
  } finally {
    clock[part] += clock.now() - start;
  }
}

/** A crop on its way. */
interface CropOnWay {
  readonly image: ImageToRead;
  readonly crop: number;
  readonly encoder: Encoder;
  /** How its patches lie. */
  readonly arrange: (patches: number) => CropArrangement;
}

/** A crop behind the encoder. */
interface PassedCrop {
  readonly crop: number;
  readonly encoded: EncodedCrop;
  readonly outcome: CropOutcome;
  /** Those of the encoder's tokens that stand for the picture, ascending; null: all of them. */
  readonly left: Uint32Array | null;
  /** The grid of those left; null where they do not fill one. */
  readonly grid: Grid | null;
  /** From what signals of the encoder's layers are about to its tokens; null where they are the same. */
  readonly fold: ReductionPlan | null;
  /** Patches that each of the encoder's tokens stands for; null: one, or as `fold` says. */
  readonly sizes: Float32Array | null;
}

/**
 * Encodes a crop; where tokens are reduced inside the encoder, the caller's thread decides between its parts.
 */
async function passEncoder(
  { image, crop, encoder, arrange }: CropOnWay,
  encodeCrop: ReturnType<typeof encodingOnce>,
  clock: Clock,
  context: VisionContext,
): Promise<PassedCrop> {
  const { prepared, request } = image;
  const { rules, amount, cuts } = insideEncoder(request.vision, encoder);
  const budgets = [...rules.map(({ budget }) => budget), ...(amount ? [amount] : [])];
  const encoding = [prepared.imageHash, ...budgets.map((budget) => JSON.stringify(budget))].join(' ');
  const key = request.reuseEncoding ? { encoding, crop } : null;
  let encoded = await timed(clock, 'visionMs', () =>
    encodeCrop(encoder, prepared.crops[crop], { rules, merging: amount }, key),
  );
  let plans = [...encoded.plans];
  for (const [cut, site] of cuts.entries()) {
    const whole = arrange(plans.at(0)?.inputLength ?? patchesOf(encoded));
    const grid = whole.left ? null : gridBehind(plans, whole.grid);
    const before = encoded;
    let made: readonly ReductionPlan[] = [];
    const hidden = await timed(clock, 'reduceMs', async () => {
      const there = { site, grid, plans };
      made = await planInside({ image, crop, encoder, arrange }, before, there, context);
      plans.push(...made);
      return applyToPatches(before, made);
    });
    const sizes = sizesBehind(plans) ?? undefined;
    encoded = await timed(clock, 'visionMs', () => encoder.resume(cut, hidden, sizes));
    if (site.within) encoded = behindLayer(encoded, before, made, request.vision);
  }
  if (cuts.at(-1)?.within) plans = [exactMeans(plans.reduce(composePlans))];
  context.stopIfAsked(); // the last look at the flag before waiting for the other thread
  const arranged = arrange(plans.at(0)?.inputLength ?? patchesOf(encoded));
  return { crop, ...behindEncoder(encoded, arranged, plans) };
}

/** What happens inside the encoder: what its graph decides, and where the caller's thread does. */
function insideEncoder(
  vision: VisionRequest | null,
  { cuts }: Encoder,
): { rules: readonly Rule[]; amount: MergeAmount | null; cuts: readonly VisionSite[] } {
  const { sites = [], merging = null } = vision ?? {};
  const rules = sites.flatMap(({ rule }) => rule ?? []);
  if (merging?.amount === null) {
    const layers = Array.from({ length: cuts }, (_, layer) => layer);
    return {
      rules,
      amount: null,
      cuts: layers.map((layer): VisionSite => ({ tower: 'vision', layer, within: true })),
    };
  }
  const planned = sites.filter(({ rule }) => rule === null);
  return {
    rules,
    amount: merging?.amount ?? null,
    cuts: planned.map(({ layer }): VisionSite => ({ tower: 'vision', layer })),
  };
}

/**
 * What came out behind a cut inside a layer, with that layer's signals: its attention ran before the cut, so
 * that they are about the tokens there.
 */
function behindLayer(
  encoded: EncodedCrop,
  before: EncodedCrop,
  plans: readonly ReductionPlan[],
  vision: VisionRequest | null,
): EncodedCrop {
  const wanted = new Set(vision?.signals.map(signalId));
  const ofFeatures = before.signals.filter((signal) => wanted.has(signalId(signal)));
  if (ofFeatures.length === 0) return encoded;
  const fold = plans.length > 0 ? plans.reduce(composePlans) : null;
  const signals = [...encoded.signals, ...ofFeatures];
  return { ...encoded, signals, fold: fold && isIdentity(fold) ? null : fold };
}

function patchesOf({ features, prefixTokens }: EncodedCrop): number {
  return features.length - prefixTokens;
}

/** The grid behind plans that began on one. */
function gridBehind(plans: readonly ReductionPlan[], grid: Grid | null): Grid | null {
  return plans.reduce<Grid | null>((before, plan) => plan.grid ?? (isIdentity(plan) ? before : null), grid);
}

/** What is left of a crop's patches behind the encoder, of those that do not stand for padding. */
function behindEncoder(
  encoded: EncodedCrop,
  { grid, region, fold, left: picture }: CropArrangement,
  plans: readonly ReductionPlan[],
): Omit<PassedCrop, 'crop'> {
  const inputTokens = picture?.length ?? plans.at(0)?.inputLength ?? encoded.features.length;
  const encoderPlans: ReductionPlan[] = [];
  let left = picture;
  for (const plan of plans) {
    const part = left ? partOfPicture(plan, left) : { plan, left: null };
    encoderPlans.push(part.plan);
    left = part.left;
  }
  const outcome = { grid, region, inputTokens, encoderPlans };
  const behind = { left, fold: encoded.fold ?? fold, grid: gridBehind(encoderPlans, grid) };
  return { encoded, outcome, ...behind, sizes: sizesBehind(plans) };
}

/** The part of a plan that is about the picture's tokens, and which of its outputs are theirs. */
function partOfPicture(
  plan: ReductionPlan,
  picture: Uint32Array,
): { plan: ReductionPlan; left: Uint32Array } {
  const places = new Map(Array.from(picture, (token, place) => [token, place]));
  const part = partialPlan(plan, picture.length, (token) => places.get(token));
  const isPicture = (output: number): boolean => places.has(plan.anchors[output]);
  return { plan: part, left: Uint32Array.from(Array.from(plan.anchors.keys()).filter(isPicture)) };
}

function arrange({ size, crops }: PreparedImage, tokens: number, family: FamilySettings): CropArrangement[] {
  const known = crops.map(({ width, height }) => ({ pixels: { width, height }, tokens }));
  return familyOf(family).arrange(size, known, family);
}

/** Which crop of which image, where it need not be encoded again. */
interface CropKey {
  /** The image, and what the graph's rules make of it. */
  readonly encoding: string;
  readonly crop: number;
}

/**
 * Encodes a crop, unless the encoder's last image was the same and the caller names it. Signals of the prompt
 * are none of it, so nothing of another question comes back.
 */
export function encodingOnce(): (
  encoder: Pick<Encoder, 'encode'>,
  pixels: PixelValues,
  inside: { readonly rules: readonly Rule[]; readonly merging: MergeAmount | null },
  key: CropKey | null,
) => Promise<EncodedCrop> {
  const lastOf = new WeakMap<
    object,
    { readonly encoding: string; readonly crops: Map<number, EncodedCrop> }
  >();
  return async (encoder, pixels, { rules, merging }, key) => {
    if (key === null) {
      lastOf.delete(encoder);
      return encoder.encode(pixels, rules, merging);
    }
    const last = lastOf.get(encoder);
    const { crops } = last?.encoding === key.encoding ? last : { crops: new Map<number, EncodedCrop>() };
    lastOf.set(encoder, { encoding: key.encoding, crops });
    const encoded = crops.get(key.crop) ?? (await encoder.encode(pixels, rules, merging));
    crops.set(key.crop, encoded);
    return encoded;
  };
}

/** Where the caller's thread decides about the patches inside the encoder, and what became of them so far. */
interface InsideEncoder {
  readonly site: VisionSite;
  readonly grid: Grid | null;
  readonly plans: readonly ReductionPlan[];
}

/** Has the caller's thread decide about the patches there. */
async function planInside(
  { image: { index, text }, crop, encoder }: CropOnWay,
  encoded: EncodedCrop,
  { site, grid, plans: before }: InsideEncoder,
  { caller, awaited, stopIfAsked }: VisionContext,
): Promise<readonly ReductionPlan[]> {
  stopIfAsked();
  const length = patchesOf(encoded);
  const { signals, prefixTokens } = encoded;
  const entered = before.at(0)?.inputLength ?? length;
  const message: CropTokens = {
    ...{ site, image: index, crop, length, left: null, fold: null, grid, classToken: encoder.classToken },
    sizes: sizesBehind(before),
    encoder: site.within ? { layers: encoder.cuts, prefixTokens, entered } : null,
    signals: [...signals.map(sent), ...textSignals.map(held)],
  };
  const readers = new Map<string, SignalReader>([
    ...signals.map((signal): [string, SignalReader] => [signalId(signal), () => signal.values]),
    ...promptReaders({ text, prompt: null, products: null }),
  ]);
  const [plans] = await awaited.during([{ length, signals: readers }], () => caller.planCrops([message]));
  return plans;
}

/** The hidden states of prefix tokens and of what plans leave of the patches. */
function applyToPatches({ features, prefixTokens }: EncodedCrop, plans: readonly ReductionPlan[]): Features {
  const width = features.data.length / features.length;
  const prefix = features.data.subarray(0, prefixTokens * width);
  const patches = { data: features.data.subarray(prefix.length), length: features.length - prefixTokens };
  const { data, length } = plans.reduce(applyTo, patches);
  const all = new Float32Array(prefix.length + data.length);
  all.set(prefix);
  all.set(data, prefix.length);
  return { data: all, length: prefixTokens + length };
}

/** Has the caller's thread decide about tokens of crops on the features, and applies what it decided. */
async function reduceCrops(
  { request, index, text }: ImageToRead,
  encoder: Encoder,
  passed: readonly PassedCrop[],
  { caller, awaited }: VisionContext,
): Promise<ReducedCrop[]> {
  const pictures = passed.map(({ encoded, left }) => leftOf(encoded.features, left));
  const crops = passed.filter((_, i) => request.vision && pictures[i].length > 0);
  if (crops.length === 0) return pictures.map((features) => ({ features, plans: [] }));
  const messages = crops.map((one) => featureTokens(one, encoder, index));
  const tokens = crops.map(({ encoded: { features, signals } }) => ({
    length: features.length,
    signals: readersOf(encoder, features, text, signals),
  }));
  return awaited.during(tokens, async () => {
    if (request.handOut) return [await caller.reduceCrop(messages[0], pictures[0])];
    const made = await caller.planCrops(messages);
    return passed.map((one, i): ReducedCrop => {
      const plans = made.at(crops.includes(one) ? crops.indexOf(one) : made.length) ?? [];
      return { features: plans.reduce(applyTo, pictures[i]), plans };
    });
  });
}

/** What the caller's thread is told of a crop on its features. */
function featureTokens(
  { crop, encoded: { features, signals }, left, fold, grid, sizes }: PassedCrop,
  { classToken }: Encoder,
  image: number,
): CropTokens {
  const asked = [featuresSignal(), projectedFeatures(), ...textSignals];
  return {
    ...{ site: atFeatures, image, crop, length: features.length, left, fold, grid, classToken },
    ...{ sizes, encoder: null },
    signals: [...signals.map(sent), ...asked.map(held)],
  };
}

/** What may be asked about a crop whose plans are awaited. */
function readersOf(
  encoder: Encoder,
  features: Features,
  text: Float32Array,
  signals: readonly GivenSignal[],
): Map<string, SignalReader> {
  let projected: Promise<Features> | undefined; // once, however often it is asked about
  return new Map<string, SignalReader>([
    ...signals.map((signal): [string, SignalReader] => [signalId(signal), () => signal.values]),
    [signalId(featuresSignal()), () => features.data],
    [signalId(projectedFeatures()), async () => (await (projected ??= encoder.project(features))).data],
    ...promptReaders({ text, prompt: null, products: null }),
  ]);
}

function applyTo({ data, length }: Features, plan: ReductionPlan): Features {
  if (length === 0) return { data, length }; // a crop that an earlier plan kept nothing of
  return { data: applyPlan(plan, data), length: plan.outputLength };
}
