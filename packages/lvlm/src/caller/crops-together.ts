/**
 * The crops of an image ranked together: their tokens as one set, and its plans told apart by crop again.
 * Runs in the caller's thread.
 */
import {
  createTokens,
  nearestRowsWith,
  signalId,
  SignalUnavailableError,
  similarityWith,
  UnsupportedReducerError,
  type ReductionPlan,
  type SignalRequest,
  type Span,
  type TokenReducer,
  type TokenSource,
} from '@foveate/core';
import { partialPlan } from '../engine/partial-plan.js';

/**
 * The tokens of several crops one after the other. They fill no grid; signals that are about a
 * crop as a whole, such as attention maps, are not there.
 */
export function joinTokens(crops: readonly TokenSource[]): TokenSource {
  const [first] = crops;
  if (crops.length === 1) return first;
  const length = crops.reduce((sum, crop) => sum + crop.length, 0);
  const sizes = crops.some((crop) => crop.sizes)
    ? joined(crops.map((crop) => crop.sizes ?? new Float32Array(crop.length).fill(1)))
    : undefined;
  const tokens: TokenSource = {
    ...createTokens({ length, ...(sizes && { sizes }), imageHash: first.imageHash }),
    signal: async (request) => {
      if (request.signal.of === 'prompt') return first.signal(request);
      refuseOfWholeCrops(request);
      return joined(await Promise.all(crops.map((crop) => crop.signal(request))));
    },
    nearest: async (rows, of, k) => nearestRowsWith(first.products, await tokens.signal(rows), length, of, k),
    similarity: async (rows, to, measure) =>
      similarityWith(first.products, await tokens.signal(rows), length, to, measure),
    products: first.products,
  };
  return tokens;
}

function refuseOfWholeCrops(request: SignalRequest): void {
  const [first, ...others] = request.signal.shape;
  if (first === 'N' && !others.includes('N')) return;
  throw new SignalUnavailableError(
    signalId(request),
    "it is about one crop, and the crops of an image are ranked together. Use per: 'crop'.",
  );
}

/**
 * The parts that plans for all crops have in each.
 * @param lengths of the crops' tokens
 * @param reducers that made the plans, one a plan
 * @returns [crops][plans]
 * @throws UnsupportedReducerError where a plan merges tokens of different crops, or their order
 */
export function plansByCrop(
  plans: readonly ReductionPlan[],
  lengths: readonly number[],
  reducers: readonly Pick<TokenReducer, 'name'>[],
): ReductionPlan[][] {
  const parts: ReductionPlan[][] = lengths.map(() => []);
  if (lengths.length === 1) return [[...plans]];
  let left = lengths;
  for (const [i, plan] of plans.entries()) {
    const spans = spansOf(left);
    refuseMixed(plan, spans, reducers[i].name);
    const made = spans.map(({ start, length }) =>
      partialPlan(plan, length, (token) =>
        token >= start && token < start + length ? token - start : undefined,
      ),
    );
    for (const [crop, part] of made.entries()) parts[crop].push(part);
    left = made.map(({ outputLength }) => outputLength);
  }
  return parts;
}

function refuseMixed(
  { outputLength, offsets, sources, anchors }: ReductionPlan,
  spans: readonly Span[],
  name: string,
): void {
  const cropOf = (token: number): number => spans.findLastIndex(({ start }) => start <= token);
  let before = 0;
  for (let m = 0; m < outputLength; m++) {
    const crop = cropOf(anchors[m]);
    const ofCrop = sources.subarray(offsets[m], offsets[m + 1]).every((source) => cropOf(source) === crop);
    if (ofCrop && crop >= before) before = crop;
    else {
      throw new UnsupportedReducerError(
        `${name} mixes tokens of different crops of an image, each of which has its place in the prompt. Use per: 'crop'.`,
      );
    }
  }
}

function spansOf(lengths: readonly number[]): Span[] {
  let start = 0;
  return lengths.map((length) => {
    start += length;
    return { start: start - length, length };
  });
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
