import * as fc from 'fast-check';
import type { Grid, ReductionPlan } from '../plan.js';
import { maxPlan, mergePlan, selectionPlan } from '../plan.js';
import type { SignalRequest } from '../signals/define-signal.js';
import type { GivenSignal } from '../token-source.js';

/** Length of every generated axis that is not the tokens. */
const freeLength = 3;

/** Grids of 1 to 36 tokens. */
const arbitraryGrid: fc.Arbitrary<Grid> = fc.record({
  rows: fc.integer({ min: 1, max: 6 }),
  columns: fc.integer({ min: 1, max: 6 }),
});

/** Generated tokens: what `createTokens` takes. */
export interface TokenSample {
  readonly length: number;
  readonly grid: Grid;
  readonly imageHash: string;
  readonly signals: readonly GivenSignal[];
}

/**
 * Tokens with the signals of `requests`, values in (0, 1].
 * @param levels number of different values of a signal: few make ties
 */
export function arbitraryTokens(
  requests: readonly SignalRequest[],
  levels: number,
  grids: fc.Arbitrary<Grid> = arbitraryGrid,
): fc.Arbitrary<TokenSample> {
  return grids.chain((grid) => {
    const length = grid.rows * grid.columns;
    const signals = requests.map((request) => {
      const count = request.signal.shape.reduce(
        (product, axis) => product * (axis === 'N' ? length : freeLength),
        1,
      );
      return arbitraryValues(count, levels).map((values): GivenSignal => ({ ...request, values }));
    });
    return fc.record({
      length: fc.constant(length),
      grid: fc.constant(grid),
      imageHash: fc.string(),
      signals: fc.tuple(...signals),
    });
  });
}

/**
 * Without fast-check's bias to small integers, so that with many levels different values hardly ever have
 * equal sums.
 */
function arbitraryValues(count: number, levels: number): fc.Arbitrary<Float32Array> {
  const level = fc.integer({ min: 1, max: levels });
  return fc
    .noBias(fc.array(level, { minLength: count, maxLength: count }))
    .map((integers) => Float32Array.from(integers, (integer) => integer / levels));
}

/** Features of `length` tokens: [length, channels]. */
export function arbitraryFeatures(length: number, channels: number): fc.Arbitrary<Float32Array> {
  return arbitraryNumbers(length * channels, 4).map((values) => Float32Array.from(values));
}

/** Rows of a softmax: [heads, side, side]. */
export function arbitraryAttention(heads: number, side: number): fc.Arbitrary<Float32Array> {
  const count = heads * side * side;
  return fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: count, maxLength: count }).map((parts) =>
    Float32Array.from(parts, (part, index) => {
      const row = index - (index % side);
      return part / parts.slice(row, row + side).reduce((left, right) => left + right);
    }),
  );
}

/** Plans of every kind for `inputLength` tokens. */
export function arbitraryPlan(inputLength: number): fc.Arbitrary<ReductionPlan> {
  return fc.oneof(
    arbitrarySelection(inputLength),
    arbitraryMerge(inputLength),
    arbitraryMaximum(inputLength),
  );
}

/** Selections in any order. */
export function arbitrarySelection(inputLength: number): fc.Arbitrary<ReductionPlan> {
  return arbitrarySources(inputLength).map((sources) => selectionPlan(sources, inputLength));
}

/** Weighted sums, some weights 0 or negative. */
export function arbitraryMerge(inputLength: number): fc.Arbitrary<ReductionPlan> {
  const output = arbitrarySources(inputLength).chain((sources) =>
    arbitraryNumbers(sources.length, 2).map((weights) => ({ sources, weights })),
  );
  return fc
    .array(output, { minLength: 1, maxLength: inputLength })
    .map((outputs) => mergePlan(outputs, inputLength));
}

/** Maxima over groups. */
export function arbitraryMaximum(inputLength: number): fc.Arbitrary<ReductionPlan> {
  return fc
    .array(arbitrarySources(inputLength), { minLength: 1, maxLength: inputLength })
    .map((groups) => maxPlan(groups, inputLength));
}

/** In [-limit, limit], in steps of 2^-10: no denormals, which a backend may flush to 0. */
function arbitraryNumbers(count: number, limit: number): fc.Arbitrary<number[]> {
  const steps = fc.integer({ min: -limit * 1024, max: limit * 1024 });
  return fc.array(
    steps.map((step) => step / 1024),
    { minLength: count, maxLength: count },
  );
}

function arbitrarySources(inputLength: number): fc.Arbitrary<number[]> {
  const all = Array.from({ length: inputLength }, (_, index) => index);
  return fc.shuffledSubarray(all, { minLength: 1 });
}
