import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvalidPlanError } from './errors.js';
import {
  createPlan,
  identityPlan,
  isIdentity,
  isSelection,
  maxPlan,
  mergePlan,
  selectionPlan,
  withWarnings,
  type PlanParts,
} from './plan.js';
import { arbitraryPlan } from './testing/arbitraries.js';

describe('the kinds of plan', () => {
  it('identity', () => {
    const plan = identityPlan(3);
    expect([...plan.sources]).toEqual([0, 1, 2]);
    expect(isIdentity(plan) && isSelection(plan)).toBe(true);
  });

  it('selection: in the order given, each token its own anchor', () => {
    const plan = selectionPlan([4, 1], 5, { warnings: ['w'], grid: { rows: 1, columns: 2 } });
    expect(plan).toEqual({
      inputLength: 5,
      outputLength: 2,
      offsets: Uint32Array.of(0, 1, 2),
      sources: Uint32Array.of(4, 1),
      combine: 'sum',
      anchors: Uint32Array.of(4, 1),
      grid: { rows: 1, columns: 2 },
      warnings: ['w'],
    });
    expect(isSelection(plan)).toBe(true);
    expect(isIdentity(plan)).toBe(false);
    expect(isIdentity(selectionPlan([1, 0], 2))).toBe(false);
  });

  it('merge: sources sorted with their weights, the heaviest is the anchor, ties the lower', () => {
    const plan = mergePlan(
      [
        { sources: [3, 0], weights: [0.75, 0.25] },
        { sources: [2, 1], weights: [0.5, 0.5] },
      ],
      4,
    );
    expect([...plan.offsets]).toEqual([0, 2, 4]);
    expect([...plan.sources]).toEqual([0, 3, 1, 2]);
    expect([...(plan.weights ?? [])]).toEqual([0.25, 0.75, 0.5, 0.5]);
    expect([...plan.anchors]).toEqual([3, 1]);
    expect(isSelection(plan)).toBe(false);
  });

  it('maximum: no weights, the anchor is the lowest index', () => {
    const plan = maxPlan([[2, 1], [0]], 3);
    expect(plan.combine).toBe('max');
    expect(plan.weights).toBeUndefined();
    expect([...plan.anchors]).toEqual([1, 0]);
    expect(isSelection(plan)).toBe(false);
  });

  it('one unchanged token an output is a selection, however it is written', () => {
    expect(isSelection(maxPlan([[1], [0]], 2))).toBe(true);
    const ones = mergePlan([{ sources: [1], weights: [1] }], 2);
    expect(isSelection(ones)).toBe(true);
    expect(ones.weights).toBeUndefined();
    expect(isSelection(mergePlan([{ sources: [1], weights: [0.5] }], 2))).toBe(false);
  });

  it('the same token in two outputs is no selection', () => {
    const twice = mergePlan(
      [1, 1].map((token) => ({ sources: [token], weights: [1] })),
      2,
    );
    expect(isSelection(twice)).toBe(false);
    expect(maxPlan([[1], [1]], 2)).toEqual(twice);
  });

  it('withWarnings adds to what is there', () => {
    expect(withWarnings(selectionPlan([0], 1, { warnings: ['a'] }), ['b']).warnings).toEqual(['a', 'b']);
  });
});

describe('a plan', () => {
  it('is frozen, owns its arrays and survives a structured clone', () => {
    const indices = Uint32Array.of(0, 2);
    const plan = selectionPlan(indices, 3);
    indices[0] = 1;
    expect([...plan.sources]).toEqual([0, 2]);
    expect(Object.isFrozen(plan) && Object.isFrozen(plan.warnings)).toBe(true);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 6 }).chain(arbitraryPlan), (any) => {
        expect(createPlan(structuredClone(any))).toEqual(any);
      }),
    );
  });
});

describe('createPlan refuses', () => {
  const good: PlanParts = { inputLength: 3, offsets: [0, 2, 3], sources: [0, 1, 2], weights: [1, 2, 3] };

  it.each<[string, Partial<PlanParts>, string]>([
    ['no input', { inputLength: 0 }, 'inputLength must be a positive integer'],
    ['a fractional input length', { inputLength: 2.5 }, 'inputLength'],
    ['no output', { offsets: [0], sources: [], weights: [] }, 'nothing was kept'],
    ['offsets that do not start at 0', { offsets: [1, 2, 3] }, 'offsets must run from 0'],
    ['offsets that do not end at the sources', { offsets: [0, 2] }, 'offsets must run from 0 to the 3'],
    ['an empty output', { offsets: [0, 0, 3] }, 'offsets must ascend'],
    ['falling offsets', { offsets: [0, 3, 2, 3] }, 'offsets must ascend'],
    ['fractional offsets', { offsets: [0, 1.5, 3] }, 'offsets must ascend'],
    ['a source out of range', { sources: [0, 3, 1] }, 'integers in [0, 3); received 3'],
    ['a negative source', { sources: [-1, 1, 2] }, 'received -1'],
    ['a fractional source', { sources: [0, 0.5, 2] }, 'received 0.5'],
    ['a source named twice in an output', { sources: [1, 1, 2] }, 'must ascend'],
    ['sources out of order', { sources: [1, 0, 2] }, 'must ascend'],
    ['too few weights', { weights: [1, 2] }, 'weights must be one a source'],
    ['NaN as a weight', { weights: [1, NaN, 3] }, 'weights must be finite'],
    ['a weight too large for float32', { weights: [1, 1e39, 3] }, 'weights must be finite'],
    ['a maximum with weights', { combine: 'max' }, 'weights must be absent'],
    ['an anchor that is no source', { anchors: [2, 2] }, 'anchors must be sources'],
    ['too few anchors', { anchors: [0] }, 'anchors must be one an output'],
    ['a grid of another size', { grid: { rows: 2, columns: 2 } }, 'grid must hold the 2 outputs'],
    ['a grid of negative sides', { grid: { rows: -1, columns: -2 } }, 'grid must hold'],
  ])('%s', (_, change, message) => {
    const make = (): unknown => createPlan({ ...good, ...change });
    expect(make).toThrow(InvalidPlanError);
    expect(make).toThrow(message);
  });

  const throwing = new Proxy([0, 1, 2], {
    get: () => {
      throw new TypeError('no getting');
    },
  });

  it.each<[string, unknown]>([
    ['null', null],
    ['undefined', undefined],
    ['a number', 3],
    ['a string', 'identity'],
    ['a function', () => good],
    ['an array', [0, 1, 2]],
    ['an empty object', {}],
    ['an input length of another kind', { ...good, inputLength: Symbol('3') }],
    ['an input length that cannot be shown', { ...good, inputLength: { toString: null } }],
    ['no offsets', { ...good, offsets: undefined }],
    ['no sources', { ...good, sources: null }],
    ['text for sources', { ...good, sources: '012' }],
    ['an object for offsets', { ...good, offsets: { length: 3, 0: 0, 1: 2, 2: 3 } }],
    ['a view without numbers', { ...good, sources: new DataView(new ArrayBuffer(12)) }],
    ['big integers', { ...good, sources: BigInt64Array.of(0n, 1n, 2n) }],
    ['sources in words', { ...good, sources: ['0', '1', '2'] }],
    ['symbols', { ...good, offsets: [0, Symbol('2'), 3] }],
    ['holes', { ...good, sources: [0, undefined, 2] }],
    ['null for weights', { ...good, weights: null }],
    ['weights in words', { ...good, weights: ['1', '2', '3'] }],
    ['null for anchors', { ...good, anchors: null }],
    ['another way to combine', { ...good, combine: 'mean' }],
    ['null for the grid', { ...good, grid: null }],
    ['a grid of symbols', { ...good, grid: { rows: Symbol('1'), columns: 2 } }],
    ['a number for warnings', { ...good, warnings: 3 }],
    ['text for warnings', { ...good, warnings: 'few tokens' }],
    ['warnings that are no text', { ...good, warnings: ['few tokens', 3] }],
    ['numbers for warnings', { ...good, warnings: Float32Array.of(1) }],
    ['an array that throws', { ...good, sources: throwing }],
    ['warnings that throw', { ...good, warnings: throwing }],
    [
      'a part that throws',
      {
        ...good,
        get offsets() {
          throw new TypeError('no getting');
        },
      },
    ],
    ['a plan that throws', new Proxy({}, { get: () => throwing.length })],
  ])('%s, with a typed error', (_, parts) => {
    expect(() => createPlan(parts as PlanParts)).toThrow(InvalidPlanError);
  });

  it('what changes between two looks at it', () => {
    /** 0, 2, 3 at the first look, at a later one tokens that are not there. */
    const changing = (first: readonly number[]): number[] => {
      let looks = 0;
      return new Proxy([...first], {
        get: (target, key) => {
          if (key === '1' && ++looks > 1) return 2 ** 31;
          return Reflect.get(target, key) as unknown;
        },
      });
    };
    const plan = createPlan({ ...good, sources: changing([0, 1, 2]), weights: changing([1, 2, 3]) });
    expect([...plan.sources]).toEqual([0, 1, 2]);
    expect([...(plan.weights ?? [])]).toEqual([1, 2, 3]);
    expect([...createPlan({ ...good, offsets: changing([0, 2, 3]) }).offsets]).toEqual([0, 2, 3]);
    let reads = 0;
    const parts = {
      ...good,
      get inputLength() {
        return reads++ === 0 ? 3 : 2 ** 31;
      },
    };
    expect(createPlan(parts).inputLength).toBe(3);
  });

  it.each([0, -1, 1.5, NaN, Infinity])('an identity of %f tokens', (length) => {
    expect(() => identityPlan(length)).toThrow(InvalidPlanError);
  });

  it('several sources without weights', () => {
    const { weights, ...unweighted } = good;
    expect(weights).toBeDefined();
    expect(() => createPlan(unweighted)).toThrow('weights must be there');
  });

  it('a selection that takes a token twice', () => {
    expect(() => selectionPlan([1, 1], 3)).toThrow('at most once');
    expect(() => selectionPlan([], 3)).toThrow(InvalidPlanError);
    expect(() => selectionPlan([-1], 3)).toThrow('received -1');
  });

  it('an output of more weights than sources', () => {
    expect(() => mergePlan([{ sources: [0], weights: [1, 2] }], 3)).toThrow('1 sources but 2 weights');
  });
});
