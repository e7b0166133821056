import * as fc from 'fast-check';
import type { AttentionMarginals, TensorBackend } from '../backend.js';
import { FoveateError } from '../errors.js';
import { createPlan, maxPlan, mergePlan, selectionPlan, type ReductionPlan } from '../plan.js';
import type { ComparedRows, SimilarityMeasure } from '../row-similarity.js';
import { arbitraryAttention, arbitraryFeatures, arbitraryPlan } from './arbitraries.js';
import { ensure, ensureRejects, type ConformanceCase } from './conformance-case.js';
import { withTensor } from './on-backend.js';

/** The backend under test. */
export interface BackendConformanceOptions<Tensor> {
  /** Called once a test. */
  readonly create: () => TensorBackend<Tensor> | Promise<TensorBackend<Tensor>>;
  /** Largest difference allowed to a value in [-10, 10]. Default 1e-5. */
  readonly tolerance?: number;
  /** Generated inputs a property. Default 50. */
  readonly runs?: number;
}

/** Runs one operation on host data and gives host data back; every tensor is disposed. */
interface Harness {
  readonly marginals: (
    data: Float32Array,
    shape: readonly number[],
    classToken: boolean,
  ) => Promise<AttentionMarginals>;
  readonly nearest: (
    data: Float32Array,
    shape: readonly number[],
    of: readonly number[],
    k: number,
  ) => Promise<number[]>;
  readonly similarity: (
    data: Float32Array,
    shape: readonly number[],
    to: ComparedRows,
    measure: SimilarityMeasure,
  ) => Promise<Float32Array>;
  readonly applyPlan: (
    data: Float32Array,
    shape: readonly number[],
    plan: ReductionPlan,
  ) => Promise<Float32Array>;
}

/**
 * The tests that every tensor backend passes, for any test runner. Expected values are worked out by hand or
 * from the definitions, element by element; never by the reference backend.
 */
export function backendConformance<Tensor>(options: BackendConformanceOptions<Tensor>): ConformanceCase[] {
  const { tolerance = 1e-5, runs = 50 } = options;
  const test = (name: string, body: (harness: Harness) => Promise<void>): ConformanceCase => ({
    name,
    run: async () => body(createHarness(await options.create())),
  });
  return [
    {
      name: 'gives back what was uploaded',
      run: async () => {
        const backend = await options.create();
        const tensor = backend.upload(Float32Array.of(1, -2, 3.5, 4, 0, 6), [2, 3]);
        ensureClose(await backend.download(tensor), [1, -2, 3.5, 4, 0, 6], 0, 'download(upload(x))');
        backend.dispose(tensor);
        await ensureRejects(
          FoveateError,
          () => backend.upload(new Float32Array(5), [2, 3]),
          '5 values as [2, 3]',
        );
      },
    },
    ...marginalCases(test, tolerance, runs),
    ...nearestCases(test, tolerance, runs),
    ...similarityCases(test, tolerance, runs),
    ...applyCases(test, tolerance, runs),
  ];
}

type Test = (name: string, body: (harness: Harness) => Promise<void>) => ConformanceCase;

// [2, 3, 3]: two heads, CLS and two tokens. Rows sum to 1, as a softmax leaves them.
const attentionByHand = Float32Array.of(
  ...[0.5, 0.25, 0.25, 0.5, 0.5, 0, 0.25, 0.25, 0.5],
  ...[0, 0.25, 0.75, 0.5, 0.25, 0.25, 0, 0.75, 0.25],
);

function marginalCases(test: Test, tolerance: number, runs: number): ConformanceCase[] {
  return [
    test('marginals: CLS goes out before the means, rows stay unnormalised', async (harness) => {
      const { given, received, classAttention } = await harness.marginals(attentionByHand, [2, 3, 3], true);
      // Without CLS: head 0 [[.5, 0], [.25, .5]], head 1 [[.25, .25], [.75, .25]].
      ensureClose(given, [0.25, 0.4375], tolerance, 'given');
      ensureClose(received, [0.4375, 0.25], tolerance, 'received');
      ensureClose(classAttention, [0.25, 0.5], tolerance, 'classAttention');
    }),
    test('marginals: a map without CLS is taken whole, and a batch of one is allowed', async (harness) => {
      const { given, received, classAttention } = await harness.marginals(
        attentionByHand,
        [1, 2, 3, 3],
        false,
      );
      ensureClose(given, [1 / 3, 1 / 3, 1 / 3], tolerance, 'given');
      ensureClose(received, [1.75 / 6, 2.25 / 6, 2 / 6], tolerance, 'received');
      ensure(classAttention === undefined, 'there is no class attention without CLS');
    }),
    test('marginals: as their definition, element by element', async (harness) => {
      const maps = fc
        .record({
          heads: fc.integer({ min: 1, max: 3 }),
          side: fc.integer({ min: 2, max: 7 }),
          classToken: fc.boolean(),
        })
        .chain((layout) =>
          fc.record({ layout: fc.constant(layout), data: arbitraryAttention(layout.heads, layout.side) }),
        );
      await fc.assert(
        fc.asyncProperty(maps, async ({ layout: { heads, side, classToken }, data }) => {
          const actual = await harness.marginals(data, [heads, side, side], classToken);
          const first = classToken ? 1 : 0;
          const tokens = Array.from({ length: side - first }, (_, token) => token + first);
          // mean over heads of attention[h, i, j]
          const mean = (i: number, j: number): number =>
            average(Array.from({ length: heads }, (_, h) => data[(h * side + i) * side + j]));
          const expect = (
            name: string,
            vector: Float32Array | undefined,
            value: (token: number) => number,
          ): void => {
            ensureClose(vector, tokens.map(value), tolerance, name);
          };
          expect('given', actual.given, (i) => average(tokens.map((j) => mean(i, j))));
          expect('received', actual.received, (j) => average(tokens.map((i) => mean(i, j))));
          if (classToken) expect('classAttention', actual.classAttention, (j) => mean(0, j));
        }),
        { numRuns: runs },
      );
    }),
    test('marginals: refuses other shapes, NaN and Infinity', async ({ marginals }) => {
      const refuse = (shape: readonly number[], classToken: boolean): Promise<void> => {
        const data = new Float32Array(shape.reduce((product, side) => product * side, 1));
        return ensureRejects(
          FoveateError,
          () => marginals(data, shape, classToken),
          `attention of [${shape.join()}]`,
        );
      };
      await refuse([2, 3, 4], true);
      await refuse([4, 4], false);
      await refuse([2, 1, 3, 3], true);
      await refuse([2, 1, 1], true);
      for (const value of [NaN, Infinity]) {
        const data = attentionByHand.with(4, value);
        await ensureRejects(FoveateError, () => marginals(data, [2, 3, 3], true), `attention with ${value}`);
      }
    }),
  ];
}

function nearestCases(test: Test, tolerance: number, runs: number): ConformanceCase[] {
  // [5, 2]; directions in degrees: 0, 90, 45, 0 (twice as long), none
  const rows = Float32Array.of(1, 0, 0, 1, 1, 1, 2, 0, 0, 0);
  return [
    test('nearest: by cosine, whatever the length, ties to the lower index', async ({ nearest }) => {
      // From 0: 3 (1), 2 (.71), then 1 and 4 (0 both). From 4: all 0.
      ensureClose(await nearest(rows, [5, 2], [0, 4], 4), [3, 2, 1, 4, 0, 1, 2, 3], 0, 'neighbours');
      ensureClose(await nearest(rows, [5, 2], [2], 2), [0, 1], 0, 'neighbours at 45 degrees');
    }),
    test('nearest: never the token itself, at most all others', async ({ nearest }) => {
      ensureClose(await nearest(rows, [5, 2], [3], 32), [0, 2, 1, 4], 0, 'neighbours');
      ensureClose(
        await nearest(Float32Array.of(1, 2), [1, 2], [0], 3),
        [],
        0,
        'neighbours of the only token',
      );
    }),
    test('nearest: as their definition', async ({ nearest }) => {
      const inputs = fc.integer({ min: 2, max: 9 }).chain((length) =>
        fc.record({
          length: fc.constant(length),
          data: arbitraryFeatures(length, 3),
          token: fc.nat({ max: length - 1 }),
          k: fc.integer({ min: 1, max: length - 1 }),
        }),
      );
      await fc.assert(
        fc.asyncProperty(inputs, async ({ length, data, token, k }) => {
          const cosineTo = (other: number): number => cosine(data, token, other, 3);
          const others = Array.from({ length }, (_, other) => other).filter((other) => other !== token);
          const expected = others.map(cosineTo).sort((a, b) => b - a);
          const actual = await nearest(data, [length, 3], [token], k);
          ensure(
            new Set(actual).size === k && !actual.includes(token),
            `neighbours of ${token}: ${actual.join()}`,
          );
          // By their cosines, because two that differ by rounding alone may change places.
          ensureClose(actual.map(cosineTo), expected.slice(0, k), tolerance, 'cosines of the neighbours');
        }),
        { numRuns: runs },
      );
    }),
    test('nearest: refuses other shapes, indices out of range, k below 1, NaN', async ({ nearest }) => {
      const refuse = (
        shape: readonly number[],
        of: readonly number[],
        k: number,
        data: Float32Array = rows,
      ): Promise<void> =>
        ensureRejects(
          FoveateError,
          () => nearest(data, shape, of, k),
          `rows [${shape.join()}], of ${of.join()}, k ${k}`,
        );
      await refuse([10], [0], 1);
      await refuse([1, 5, 2], [0], 1);
      await refuse([5, 2], [5], 1);
      await refuse([5, 2], [0], 0);
      await refuse([5, 2], [0], 1.5);
      await refuse([5, 2], [0], 1, rows.with(3, NaN));
    }),
  ];
}

function similarityCases(test: Test, tolerance: number, runs: number): ConformanceCase[] {
  // [3, 2]: lengths 5, 2 and 0
  const rows = Float32Array.of(3, 4, -2, 0, 0, 0);
  return [
    test('similarity: cosines and dot products with rows by their indices', async ({ similarity }) => {
      const cosines = await similarity(rows, [3, 2], Uint32Array.of(1, 0, 1), 'cosine');
      ensureClose(cosines, [-0.6, 1, 0, 1, -0.6, 0, -0.6, 1, 0], tolerance, 'cosines');
      const dots = await similarity(rows, [3, 2], Uint32Array.of(0), 'dot');
      ensureClose(dots, [25, -6, 0], tolerance, 'dots');
      ensureClose(await similarity(rows, [3, 2], new Uint32Array(0), 'dot'), [], 0, 'dots with none');
    }),
    test('similarity: with other rows', async ({ similarity }) => {
      const others = Float32Array.of(0, 2, 0, 0);
      const cosines = await similarity(rows, [3, 2], others, 'cosine');
      ensureClose(cosines, [0.8, 0, 0, 0, 0, 0], tolerance, 'cosines');
      const dots = await similarity(rows, [3, 2], others, 'dot');
      ensureClose(dots, [8, 0, 0, 0, 0, 0], tolerance, 'dots');
    }),
    test('similarity: as its definition', async ({ similarity }) => {
      const inputs = fc
        .record({ length: fc.integer({ min: 1, max: 9 }), channels: fc.integer({ min: 1, max: 4 }) })
        .chain((shape) =>
          fc.record({
            shape: fc.constant(shape),
            data: arbitraryFeatures(shape.length, shape.channels),
            of: fc.array(fc.nat({ max: shape.length - 1 }), { maxLength: 5 }),
          }),
        );
      await fc.assert(
        fc.asyncProperty(inputs, async ({ shape: { length, channels }, data, of }) => {
          const actual = await similarity(data, [length, channels], Uint32Array.from(of), 'cosine');
          const expected = of.flatMap((token) =>
            Array.from({ length }, (_, other) => cosine(data, token, other, channels)),
          );
          ensureClose(actual, expected, tolerance, 'cosines');
        }),
        { numRuns: runs },
      );
    }),
    test('similarity: refuses other shapes, indices out of range, NaN', async ({ similarity }) => {
      const refuse = (
        shape: readonly number[],
        to: ComparedRows,
        data: Float32Array = rows,
      ): Promise<void> => {
        const what = `rows [${shape.join()}], to ${to.join()}`;
        return ensureRejects(FoveateError, () => similarity(data, shape, to, 'cosine'), what);
      };
      await refuse([6], Uint32Array.of(0));
      await refuse([1, 3, 2], Uint32Array.of(0));
      await refuse([3, 2], Uint32Array.of(3));
      await refuse([3, 2], Float32Array.of(1, 2, 3));
      await refuse([3, 2], Float32Array.of(1, NaN));
      await refuse([3, 2], Uint32Array.of(0), rows.with(3, NaN));
    }),
  ];
}

function applyCases(test: Test, tolerance: number, runs: number): ConformanceCase[] {
  const features = Float32Array.of(1, 10, 2, -20, 3, 30, -4, 40); // [4, 2]
  const expectApplied = (
    name: string,
    plan: ReductionPlan,
    expected: number[],
    allowed: number,
  ): ConformanceCase =>
    test(`applyPlan: ${name}`, async ({ applyPlan }) => {
      ensureClose(await applyPlan(features, [4, 2], plan), expected, allowed, name);
    });
  const weighted = [
    { sources: [0, 2], weights: [0.25, 0.75] },
    { sources: [3, 1, 0], weights: [1, 0.5, -1] },
  ];
  return [
    expectApplied('a selection copies tokens, in its order', selectionPlan([3, 0], 4), [-4, 40, 1, 10], 0),
    expectApplied('a merge sums weighted tokens', mergePlan(weighted, 4), [2.5, 25, -4, 20], tolerance),
    expectApplied(
      'a maximum is taken channel by channel',
      maxPlan([[0, 1], [3, 2, 1], [3]], 4),
      [2, 10, 3, 40, -4, 40],
      0,
    ),
    test('applyPlan: as its definition, element by element', async ({ applyPlan }) => {
      const inputs = fc
        .record({ length: fc.integer({ min: 1, max: 8 }), channels: fc.integer({ min: 1, max: 4 }) })
        .chain(({ length, channels }) =>
          fc.record({
            channels: fc.constant(channels),
            plan: arbitraryPlan(length),
            data: arbitraryFeatures(length, channels),
          }),
        );
      await fc.assert(
        fc.asyncProperty(inputs, async ({ plan, data, channels }) => {
          const { offsets, sources, weights, combine } = plan;
          const expected = Array.from({ length: plan.outputLength * channels }, (_, index) => {
            const m = Math.floor(index / channels);
            const terms = Array.from(sources.subarray(offsets[m], offsets[m + 1]), (source, e) => {
              return (weights?.[offsets[m] + e] ?? 1) * data[source * channels + (index % channels)];
            });
            return combine === 'max' ? Math.max(...terms) : terms.reduce((left, right) => left + right);
          });
          const actual = await applyPlan(data, [plan.inputLength, channels], plan);
          ensureClose(actual, expected, tolerance * plan.inputLength, 'features');
        }),
        { numRuns: runs },
      );
    }),
    test('applyPlan: refuses features of another shape', async ({ applyPlan }) => {
      const plan = createPlan({ inputLength: 4, offsets: [0, 1], sources: [2] });
      for (const shape of [[2, 4], [8], [1, 4, 2]]) {
        await ensureRejects(
          FoveateError,
          () => applyPlan(features, shape, plan),
          `features of [${shape.join()}]`,
        );
      }
    }),
  ];
}

function createHarness<Tensor>(backend: TensorBackend<Tensor>): Harness {
  return {
    marginals: (data, shape, classToken) =>
      withTensor(backend, data, shape, (attention) => backend.marginals(attention, { classToken })),
    nearest: (data, shape, of, k) =>
      withTensor(backend, data, shape, async (rows) => [
        ...(await backend.nearest(rows, Uint32Array.from(of), k)),
      ]),
    similarity: (data, shape, to, measure) =>
      withTensor(backend, data, shape, (rows) => backend.similarity(rows, to, measure)),
    applyPlan: (data, shape, plan) =>
      withTensor(backend, data, shape, async (features) => {
        const result = await backend.applyPlan(features, plan);
        const values = await backend.download(result);
        backend.dispose(result);
        return values;
      }),
  };
}

function ensureClose(
  actual: ArrayLike<number> | undefined,
  expected: readonly number[],
  tolerance: number,
  what: string,
): void {
  const values = Array.from(actual ?? []);
  const close =
    values.length === expected.length &&
    values.every((value, i) => Math.abs(value - expected[i]) <= tolerance);
  ensure(close, `${what}: expected ${expected.join(', ')}; was ${values.join(', ')}`);
}

function average(values: readonly number[]): number {
  return values.reduce((left, right) => left + right) / values.length;
}

function cosine(data: Float32Array, first: number, second: number, channels: number): number {
  const vector = (token: number): number[] => [...data.subarray(token * channels, (token + 1) * channels)];
  const dot = (a: number[], b: number[]): number => a.reduce((sum, value, d) => sum + value * b[d], 0);
  const norms = Math.sqrt(dot(vector(first), vector(first)) * dot(vector(second), vector(second)));
  return norms === 0 ? 0 : dot(vector(first), vector(second)) / norms;
}
