/**
 * Units that a method ranks, single tokens or whole grid rows: permuting them, and telling whether two are
 * equal.
 */
import * as fc from 'fast-check';
import type { GivenSignal } from '../token-source.js';
import type { TokenSample } from './arbitraries.js';

type UnitKind = 'tokens' | 'rows';

/** So many levels of a signal that different units hardly ever have equal sums. */
export const distinctLevels: number = 2 ** 22;

/** Tokens of one unit. */
export function unitSize({ grid }: TokenSample, kind: UnitKind): number {
  return kind === 'rows' ? grid.columns : 1;
}

/** Samples whose units differ in the sum of every signal, each with a permutation of its units. */
export function arbitraryPermutation(
  samples: fc.Arbitrary<TokenSample>,
  kind: UnitKind,
): fc.Arbitrary<{ sample: TokenSample; order: number[] }> {
  return samples
    .filter((sample) => unitsDiffer(sample, kind))
    .chain((sample) => {
      const count = sample.length / unitSize(sample, kind);
      const units = Array.from({ length: count }, (_, unit) => unit);
      return fc.record({
        sample: fc.constant(sample),
        order: fc.shuffledSubarray(units, { minLength: count }),
      });
    });
}

/**
 * Moves unit `order[u]` to place u. `origin[i]` is the place in the first sample of token i of the moved one.
 */
export function permuteUnits(
  sample: TokenSample,
  order: readonly number[],
  kind: UnitKind,
): { moved: TokenSample; origin: number[] } {
  const size = unitSize(sample, kind);
  const origin = order.flatMap((unit) => Array.from({ length: size }, (_, i) => unit * size + i));
  const signals = sample.signals.map((signal) => {
    if (!ofTokens(signal)) return signal;
    const channels = signal.values.length / sample.length; // 1, or D
    const values = origin.flatMap((token) => [
      ...signal.values.subarray(token * channels, (token + 1) * channels),
    ]);
    return { ...signal, values: Float32Array.from(values) };
  });
  return { moved: { ...sample, signals }, origin };
}

/** Whether two units have the same values in every signal. */
export function equalUnit(sample: TokenSample, first: number, second: number, size: number): boolean {
  return sample.signals.filter(ofTokens).every(({ values }) => {
    const width = (size * values.length) / sample.length;
    const unit = (index: number): Float32Array => values.subarray(index * width, (index + 1) * width);
    return unit(first).every((value, i) => value === unit(second)[i]);
  });
}

/** Whether a signal has a row for each token; the others stay where tokens move. */
function ofTokens({ signal }: GivenSignal): boolean {
  return signal.shape[0] === 'N';
}

function unitsDiffer(sample: TokenSample, kind: UnitKind): boolean {
  const count = sample.length / unitSize(sample, kind);
  return sample.signals.filter(ofTokens).every(({ values }) => {
    const width = values.length / count;
    const sums = Array.from({ length: count }, (_, unit) =>
      values.subarray(unit * width, (unit + 1) * width).reduce((sum, value) => sum + value, 0),
    );
    const sorted = sums.sort((a, b) => a - b);
    return sorted.every((sum, i) => i === 0 || sum - sorted[i - 1] > 1e-6 * width);
  });
}
