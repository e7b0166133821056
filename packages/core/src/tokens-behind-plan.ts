/** The tokens that a plan leaves, with their signals. */
import { InvalidArgumentError, SignalUnavailableError } from './errors.js';
import { checkIndices, nearestRowsWith } from './nearest-rows.js';
import { isIdentity, isSelection, picksTokens, type ReductionPlan } from './plan.js';
import { similarityWith } from './row-similarity.js';
import { checkSignal, signalId, type SignalRequest } from './signals/define-signal.js';
import { createTokens, type Span, type TokenSource } from './token-source.js';

/**
 * The tokens that a plan leaves, as the next method of a chain sees them; signals follow their tokens as
 * their declarations say (`CarryRule`), each when it is asked for.
 *
 * The grid survives exactly where the plan names the one that its outputs fill (`plan.grid`: whole rows,
 * pooling) or is the identity. Each output belongs to the span of its anchor; a span that lost all tokens has
 * length 0. A merged token's size is the sum of its sources'. Merged rows are compared as they were carried,
 * by the source's `products`. The image's hash stays.
 * @throws InvalidArgumentError where the plan is for another number of tokens, or mixes the order of several
 * spans
 */
export function carryTokens(tokens: TokenSource, plan: ReductionPlan): TokenSource {
  if (plan.inputLength !== tokens.length) {
    throw new InvalidArgumentError('plan.inputLength', plan.inputLength, `the ${tokens.length} tokens`);
  }
  const grid = plan.grid ?? (isIdentity(plan) ? tokens.grid : undefined);
  const sizes = carrySizes(tokens, plan);
  const carried: TokenSource = {
    ...createTokens({
      length: plan.outputLength,
      ...(grid && { grid }),
      ...(sizes && { sizes }),
      spans: carrySpans(tokens.spans, plan),
      ...(tokens.entered !== undefined && { entered: tokens.entered }),
      ...(tokens.places &&
        isAscending(plan.anchors) && { places: plan.anchors.map((anchor) => tokens.places?.[anchor] ?? 0) }),
      ...(tokens.encoder && { encoder: tokens.encoder }),
      imageHash: tokens.imageHash,
    }),
    signal: async (request) => {
      refuseToCarry(request);
      return carrySignal(request, checkSignal(request, await tokens.signal(request), tokens.length), plan);
    },
    nearest: async (rows, of, k) =>
      nearestRowsWith(tokens.products, await carried.signal(rows), plan.outputLength, of, k),
    similarity: async (rows, to, measure) => {
      if (!picksTokens(plan)) {
        const values = await carried.signal(rows);
        return similarityWith(tokens.products, values, plan.outputLength, to, measure);
      }
      refuseToCarry(rows);
      const isIndex = to instanceof Uint32Array;
      if (isIndex) checkIndices(to, plan.outputLength);
      const before = isIndex ? to.map((token) => plan.sources[token]) : to;
      return pickColumns(await tokens.similarity(rows, before, measure), tokens.length, plan.sources);
    },
    products: tokens.products,
  };
  return carried;
}

function refuseToCarry(request: SignalRequest): void {
  if (request.signal.carry !== 'never') return;
  throw new SignalUnavailableError(
    signalId(request),
    'it cannot follow its tokens through a reduction before it.',
  );
}

function carrySignal({ signal }: SignalRequest, values: Float32Array, plan: ReductionPlan): Float32Array {
  switch (signal.carry) {
    case 'keep':
    case 'never':
      return values;
    case 'mean':
      return combineRows(values, plan, (m) => meanWeights(plan, m));
    case 'sum':
      return combineRows(values, plan, (m) => ones(plan, m));
  }
}

/** Columns of [Q, N] in the order of `sources` [M]: [Q, M]. */
function pickColumns(values: Float32Array, length: number, sources: Uint32Array): Float32Array {
  const rows = values.length / length;
  const result = new Float32Array(rows * sources.length);
  for (let row = 0, at = 0; row < rows; row++) {
    for (const source of sources) result[at++] = values[row * length + source];
  }
  return result;
}

function isAscending(values: Uint32Array): boolean {
  return values.every((value, i) => i === 0 || value > values[i - 1]);
}

/** Absent as long as every token stands for one patch. */
function carrySizes({ length, sizes }: TokenSource, plan: ReductionPlan): Float32Array | undefined {
  if (!sizes && isSelection(plan)) return undefined;
  return combineRows(sizes ?? new Float32Array(length).fill(1), plan, (m) => ones(plan, m));
}

/** values [N, D] -> [M, D]: output m sums its sources, each times its share. */
function combineRows(
  values: Float32Array,
  { inputLength, outputLength, offsets, sources }: ReductionPlan,
  sharesOf: (output: number) => Float64Array,
): Float32Array {
  const channels = values.length / inputLength; // D
  const result = new Float32Array(outputLength * channels);
  const row = new Float64Array(channels);
  for (let m = 0; m < outputLength; m++) {
    const shares = sharesOf(m);
    row.fill(0);
    for (let e = offsets[m]; e < offsets[m + 1]; e++) {
      const start = sources[e] * channels;
      const share = shares[e - offsets[m]];
      for (let d = 0; d < channels; d++) row[d] += share * values[start + d];
    }
    result.set(row, m * channels);
  }
  return result;
}

/** One for each source of output m. */
function ones({ offsets }: ReductionPlan, m: number): Float64Array {
  return new Float64Array(offsets[m + 1] - offsets[m]).fill(1);
}

/** The weights of output m scaled to sum 1; equal where there are none or their sum is 0. */
function meanWeights({ offsets, weights }: ReductionPlan, m: number): Float64Array {
  const count = offsets[m + 1] - offsets[m];
  const own = weights && Float64Array.from(weights.subarray(offsets[m], offsets[m + 1]));
  const total = own?.reduce((left, right) => left + right, 0) ?? 0;
  return own && total !== 0 ? own.map((weight) => weight / total) : new Float64Array(count).fill(1 / count);
}

function carrySpans(spans: readonly Span[], plan: ReductionPlan): Span[] {
  const owners = Array.from(plan.anchors, (anchor) =>
    spans.findIndex(({ start, length }) => anchor >= start && anchor < start + length),
  );
  if (owners.some((owner, m) => m > 0 && owner < owners[m - 1])) {
    throw new InvalidArgumentError('plan.anchors', plan.anchors, 'in the order of the spans (one an image)');
  }
  let start = 0;
  return spans.map((_, span) => {
    const length = owners.filter((owner) => owner === span).length;
    start += length;
    return { start: start - length, length };
  });
}
