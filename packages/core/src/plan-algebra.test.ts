import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FoveateError, InvalidArgumentError, PlanCompositionError } from './errors.js';
import { applyPlan, composePlans } from './plan-algebra.js';
import { identityPlan, isIdentity, maxPlan, mergePlan, selectionPlan, type ReductionPlan } from './plan.js';
import {
  arbitraryFeatures,
  arbitraryMaximum,
  arbitraryMerge,
  arbitraryPlan,
  arbitrarySelection,
} from './testing/arbitraries.js';

type Kind = (inputLength: number) => fc.Arbitrary<ReductionPlan>;

/** Two plans that follow each other, and features of two channels for the first. */
function chains(
  first: Kind,
  second: Kind,
): fc.Arbitrary<{ first: ReductionPlan; second: ReductionPlan; features: Float32Array }> {
  return fc
    .integer({ min: 1, max: 7 })
    .chain(first)
    .chain((plan) =>
      fc.record({
        first: fc.constant(plan),
        second: second(plan.outputLength),
        features: arbitraryFeatures(plan.inputLength, 2),
      }),
    );
}

describe('composePlans', () => {
  it('multiplies by hand', () => {
    const first = mergePlan(
      [
        { sources: [0, 1], weights: [0.5, 0.5] },
        { sources: [1, 3], weights: [0.25, 0.75] },
      ],
      4,
    );
    const second = mergePlan([{ sources: [0, 1], weights: [2, 4] }], 2);
    // 2 * (.5 x0 + .5 x1) + 4 * (.25 x1 + .75 x3) = 1 x0 + 2 x1 + 3 x3
    const product = composePlans(first, second);
    expect([...product.sources]).toEqual([0, 1, 3]);
    expect([...(product.weights ?? [])]).toEqual([1, 2, 3]);
    expect([...product.anchors]).toEqual([3]); // second's anchor is output 1 of the first, whose anchor is 3
  });

  it('of selections picks through, and joins warnings', () => {
    const product = composePlans(
      selectionPlan([5, 1, 3], 6, { warnings: ['a'] }),
      selectionPlan([2, 0], 3, { warnings: ['b'] }),
    );
    expect(product).toEqual(selectionPlan([3, 5], 6, { warnings: ['a', 'b'] }));
  });

  it('of maxima is the maximum of the union', () => {
    const product = composePlans(maxPlan([[0, 1], [1, 2], [3]], 4), maxPlan([[0, 1], [2]], 3));
    expect(product).toEqual(maxPlan([[0, 1, 2], [3]], 4));
  });

  it('keeps the grid that the second plan names, or the first where the second is the identity', () => {
    const grid = { rows: 1, columns: 2 };
    const named = selectionPlan([0, 1], 3, { grid });
    expect(composePlans(named, identityPlan(2)).grid).toEqual(grid);
    expect(composePlans(identityPlan(3), named).grid).toEqual(grid);
    expect(composePlans(named, selectionPlan([1], 2)).grid).toBeUndefined();
  });

  it('has the identity as its neutral element', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 7 }).chain(arbitraryPlan), (plan) => {
        expect(composePlans(identityPlan(plan.inputLength), plan)).toEqual(plan);
        expect(composePlans(plan, identityPlan(plan.outputLength))).toEqual(plan);
      }),
    );
  });

  it.each<[string, Kind, Kind]>([
    ['selection, selection', arbitrarySelection, arbitrarySelection],
    ['maximum, maximum', arbitraryMaximum, arbitraryMaximum],
    ['selection, maximum', arbitrarySelection, arbitraryMaximum],
    ['maximum, selection', arbitraryMaximum, arbitrarySelection],
  ])('applies as one after the other, to the bit: %s', (_, first, second) => {
    fc.assert(
      fc.property(chains(first, second), (chain) => {
        const stepwise = applyPlan(chain.second, applyPlan(chain.first, chain.features));
        expect(applyPlan(composePlans(chain.first, chain.second), chain.features)).toEqual(stepwise);
      }),
    );
  });

  it.each<[string, Kind, Kind]>([
    ['merge, merge', arbitraryMerge, arbitraryMerge],
    ['selection, merge', arbitrarySelection, arbitraryMerge],
    ['merge, selection', arbitraryMerge, arbitrarySelection],
  ])('applies as one after the other, up to rounding: %s', (_, first, second) => {
    fc.assert(
      fc.property(chains(first, second), (chain) => {
        const stepwise = applyPlan(chain.second, applyPlan(chain.first, chain.features));
        const product = applyPlan(composePlans(chain.first, chain.second), chain.features);
        product.forEach((value, i) => {
          expect(Math.abs(value - stepwise[i])).toBeLessThan(1e-3);
        });
      }),
    );
  });

  it('is associative in sources and anchors', () => {
    const triples = chains(arbitraryMaximum, arbitraryMaximum).chain(({ first, second }) =>
      fc.tuple(fc.constant(first), fc.constant(second), arbitraryMaximum(second.outputLength)),
    );
    fc.assert(
      fc.property(triples, ([a, b, c]) => {
        expect(composePlans(composePlans(a, b), c)).toEqual(composePlans(a, composePlans(b, c)));
      }),
    );
  });

  it('refuses lengths that do not meet, and a sum with a maximum', () => {
    const mean = mergePlan([{ sources: [0, 1], weights: [0.5, 0.5] }], 2);
    expect(() => composePlans(mean, identityPlan(2))).toThrow(PlanCompositionError);
    const pair = mergePlan(
      [
        { sources: [0, 1], weights: [0.5, 0.5] },
        { sources: [1], weights: [2] },
      ],
      2,
    );
    expect(() => composePlans(pair, maxPlan([[0, 1]], 2))).toThrow('Apply them one after the other');
    expect(() => composePlans(maxPlan([[0, 1], [1]], 2), pair)).toThrow(PlanCompositionError);
  });
});

describe('applyPlan', () => {
  it('is the identity for an identity, bit by bit', () => {
    const features = Float32Array.of(1.1, -0, 3e-42, NaN);
    const same = applyPlan(identityPlan(2), features);
    expect(new Uint32Array(same.buffer)).toEqual(new Uint32Array(features.buffer));
  });

  it('sums in float64', () => {
    // In float32, 2^24 + 1 is 2^24 and the sum would be 0.
    const plan = mergePlan([{ sources: [0, 1, 2], weights: [1, 1, -1] }], 3);
    expect([...applyPlan(plan, Float32Array.of(2 ** 24, 1, 2 ** 24))]).toEqual([1]);
  });

  it.each([new Float32Array(0), new Float32Array(5), [1, 2]])('refuses %o for 2 tokens', (features) => {
    const apply = (): unknown => applyPlan(identityPlan(2), features as Float32Array);
    expect(apply).toThrow(InvalidArgumentError);
    expect(apply).toThrow(FoveateError);
  });
});

it('isIdentity holds for a permutation composed with its inverse', () => {
  expect(isIdentity(composePlans(selectionPlan([2, 0, 1], 3), selectionPlan([1, 2, 0], 3)))).toBe(true);
});
