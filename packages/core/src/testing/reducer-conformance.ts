import * as fc from 'fast-check';
import { resolveBudget, type Budget } from '../budget.js';
import { FoveateError, GridRequiredError, InvalidArgumentError } from '../errors.js';
import { createPlan, isIdentity, isSelection, type Grid, type ReductionPlan } from '../plan.js';
import type { TokenReducer } from '../reducer.js';
import { signalId } from '../signals.js';
import { createVisualTokens, type VisualTokens } from '../visual-tokens.js';
import { arbitraryTokens, type TokenSample } from './arbitraries.js';
import { ensure, ensureRejects, type ConformanceCase } from './conformance-case.js';
import { arbitraryPermutation, distinctLevels, equalUnit, permuteUnits, unitSize } from './units.js';

/** What a reducer claims of itself, and so what is tested. */
export interface ReducerConformanceOptions {
  /** Makes the reducer under test: with this budget, or with its default where none is given. */
  readonly create: (options: { budget?: Budget }) => TokenReducer;
  /** The kinds of budget that it takes. Default both; `[]` where the method alone decides. */
  readonly budgets?: readonly BudgetKind[];
  /** Output tokens for a budget. Default: exactly what `resolveBudget` says. */
  readonly expectedLength?: (budget: Budget, tokens: { length: number; grid: Grid }) => number;
  /** Whether it throws `GridRequiredError` without a grid. Default false. */
  readonly needsGrid?: boolean;
  /** Whether every plan is a pure selection. Default true. */
  readonly selects?: boolean;
  /** Whether outputs stand in the order of their anchors. Default true. */
  readonly ascending?: boolean;
  /**
   * Set where the method looks at signals alone: moving whole tokens (or whole grid rows) moves what is kept with them, and of two with equal signals
   * the lower index is kept first. Absent where place or chance matters (uniform, random, pooling).
   */
  readonly ranks?: 'tokens' | 'rows';
}

type BudgetKind = 'keepRatio' | 'keepCount';

/** Few enough for ties, many enough for different choices. */
const someLevels = 8;

/**
 * The tests that every reducer passes, for any test runner:
 * `for (const { name, run } of reducerConformance({ create: createMine })) test(name, run);`
 */
export function reducerConformance(options: ReducerConformanceOptions): ConformanceCase[] {
  return [
    ...interfaceCases(options),
    ...planCases(options),
    ...(options.ranks ? rankingCases(options, options.ranks) : []),
    ...budgetCases(options),
    ...badInputCases(options),
  ];
}

function interfaceCases({ create }: ReducerConformanceOptions): ConformanceCase[] {
  return [
    {
      name: 'has the interface of a reducer',
      run: async () => {
        const reducer = create({});
        ensure((reducer.specificationVersion as number) === 1, 'specificationVersion must be 1');
        ensure(
          /^[a-z][a-z0-9-]*$/.test(reducer.name),
          `name ${JSON.stringify(reducer.name)} must match [a-z0-9-]+`,
        );
        ensure(['vision', 'language'].includes(reducer.stage), "stage must be 'vision' or 'language'");
        const ids = reducer.requires.map(signalId);
        ensure(new Set(ids).size === ids.length, `requires must name each signal once: ${ids.join(', ')}`);
        if (reducer.stage === 'vision') return;
        ensure(Number.isInteger(reducer.layer) && reducer.layer >= 1, 'layer must be a positive integer');
        ensure(
          !reducer.topK || ids.includes(signalId(reducer.topK.score)),
          'topK.score must be one of the signals in requires',
        );
      },
    },
    {
      name: 'asks only for signals in requires and leaves their values alone',
      run: () =>
        forAllTokens(create({}), async (reducer, sample) => {
          const before = sample.signals.map(({ values }) => values.slice());
          const asked = new Set<string>();
          const tokens = present(reducer, sample);
          await reducer.plan({
            ...tokens,
            signal: (request) => {
              asked.add(signalId(request));
              return tokens.signal(request);
            },
          });
          for (const request of reducer.requires) asked.delete(signalId(request));
          ensure(asked.size === 0, `${[...asked].join(', ')} was read but is not in requires`);
          const same = sample.signals.every(({ values }, s) =>
            values.every((value, i) => value === before[s][i]),
          );
          ensure(same, 'plan changed the values of a signal');
        }),
    },
  ];
}

function planCases(options: ReducerConformanceOptions): ConformanceCase[] {
  const { create, needsGrid = false, selects = true, ascending = true } = options;
  return [
    {
      name: 'makes a valid plan',
      run: () =>
        forAllTokens(create({}), async (reducer, sample) => {
          const plan = await reducer.plan(present(reducer, sample));
          createPlan(plan);
          ensure(
            plan.inputLength === sample.length,
            `inputLength ${plan.inputLength} for ${sample.length} tokens`,
          );
          ensure(!selects || isSelection(plan), 'the plan must be a pure selection');
          const { anchors } = plan;
          const ordered = anchors.every((anchor, m) => m === 0 || anchor > anchors[m - 1]);
          ensure(
            !ascending || ordered,
            `outputs must stand in the order of their anchors: ${anchors.join(', ')}`,
          );
        }),
    },
    {
      name: 'makes the same plan for the same tokens, whatever it planned before or meanwhile',
      run: async () => {
        const reducer = create({});
        await fc.assert(
          fc.asyncProperty(tokensFor(reducer), tokensFor(reducer), async (first, second) => {
            const plan = (sample: TokenSample): Promise<ReductionPlan> =>
              reducer.plan(present(reducer, sample));
            const expected = planText(await create({}).plan(present(reducer, first)));
            const [before, , meanwhile] = await Promise.all([plan(first), plan(second), plan(first)]);
            for (const made of [before, meanwhile, await plan(first)]) {
              ensure(
                planText(made) === expected,
                `two plans for the same tokens: ${planText(made)}, ${expected}`,
              );
            }
          }),
        );
      },
    },
    {
      name: needsGrid ? 'throws GridRequiredError without a grid' : 'plans without a grid',
      run: () =>
        forAllTokens(create({}), async (reducer, { length, key, signals }) => {
          const tokens = createVisualTokens({ length, key, signals });
          if (needsGrid) await ensureRejects(GridRequiredError, () => reducer.plan(tokens), 'no grid');
          else createPlan(await reducer.plan(tokens));
        }),
    },
  ];
}

function rankingCases({ create }: ReducerConformanceOptions, ranks: 'tokens' | 'rows'): ConformanceCase[] {
  return [
    {
      name: `keeps the same ${ranks} when they are permuted`,
      run: async () => {
        const reducer = create({});
        const samples = arbitraryPermutation(tokensFor(reducer, distinctLevels), ranks);
        await fc.assert(
          fc.asyncProperty(samples, async ({ sample, order }) => {
            const { moved, origin } = permuteUnits(sample, order, ranks);
            const plan = await reducer.plan(present(reducer, sample));
            const movedPlan = await reducer.plan(present(reducer, moved));
            ensure(
              outputsText(plan, (source) => source) === outputsText(movedPlan, (source) => origin[source]),
              `permuting the ${ranks} changed what was kept`,
            );
          }),
        );
      },
    },
    {
      name: `keeps the lower index of ${ranks} with equal signals`,
      run: () =>
        forAllTokens(
          create({}),
          async (reducer, sample) => {
            const { anchors } = await reducer.plan(present(reducer, sample));
            const size = unitSize(sample, ranks);
            const kept = new Set(Array.from(anchors, (anchor) => Math.floor(anchor / size)));
            for (const unit of kept) {
              for (let lower = 0; lower < unit; lower++) {
                ensure(
                  kept.has(lower) || !equalUnit(sample, lower, unit, size),
                  `${ranks} ${lower} and ${unit} have equal signals, and only ${unit} was kept`,
                );
              }
            }
          },
          2,
        ),
    },
  ];
}

function budgetCases(options: ReducerConformanceOptions): ConformanceCase[] {
  const { create, budgets = ['keepRatio', 'keepCount'] } = options;
  const expectedLength =
    options.expectedLength ??
    ((budget: Budget, { length }: TokenSample) => resolveBudget(budget, length).count);
  const planFor = (budget: Budget, sample: TokenSample): Promise<ReductionPlan> => {
    const reducer = create({ budget });
    return reducer.plan(present(reducer, sample));
  };
  const identity = async (budget: Budget, sample: TokenSample, warns: boolean): Promise<void> => {
    const plan = await planFor(budget, sample);
    const asked = JSON.stringify(budget);
    ensure(isIdentity(plan), `${asked} must be the identity on ${sample.length} tokens: ${planText(plan)}`);
    ensure(
      plan.warnings.length > 0 === warns,
      `${asked} must ${warns ? '' : 'not '}warn on ${sample.length} tokens`,
    );
  };
  const counts = (samples: fc.Arbitrary<TokenSample>, budget: fc.Arbitrary<Budget>) => () =>
    fc.assert(
      fc.asyncProperty(samples, budget, async (sample, asked) => {
        const { outputLength } = await planFor(asked, sample);
        const expected = expectedLength(asked, sample);
        ensure(
          outputLength === expected,
          `${JSON.stringify(asked)} of ${sample.length} tokens must keep ${expected}; kept ${outputLength}`,
        );
      }),
    );
  const refuses = (kind: BudgetKind, values: readonly unknown[]) => async () => {
    for (const value of values) {
      const budget = { [kind]: value } as unknown as Budget;
      await ensureRejects(InvalidArgumentError, () => create({ budget }), `${kind} ${String(value)}`);
    }
  };
  const ratios = fc.integer({ min: 1, max: 100 }).map((percent) => ({ keepRatio: percent / 100 }));
  const keepCounts = fc.integer({ min: 1, max: 40 }).map((keepCount) => ({ keepCount }));
  const hundred = arbitraryTokens(create({}).requires, someLevels, fc.constant({ rows: 10, columns: 10 }));
  const cases: (ConformanceCase & { kind: BudgetKind })[] = [
    {
      kind: 'keepRatio',
      name: 'keepRatio 1 is the identity',
      run: () => forAllTokens(create({}), (_, sample) => identity({ keepRatio: 1 }, sample, false)),
    },
    { kind: 'keepRatio', name: 'keepRatio keeps its share', run: counts(tokensFor(create({})), ratios) },
    {
      kind: 'keepRatio',
      name: 'keepRatio keeps its share of 100 tokens where 100 * r falls just short of a whole number',
      run: counts(hundred, fc.constantFrom({ keepRatio: 0.29 }, { keepRatio: 0.57 }, { keepRatio: 0.58 })),
    },
    {
      kind: 'keepRatio',
      name: 'keepRatio outside (0, 1] is refused when the reducer is made',
      run: refuses('keepRatio', [0, -0.5, 1.5, NaN, Infinity, '0.5', null]),
    },
    {
      kind: 'keepCount',
      name: 'keepCount of all tokens is the identity, and of more warns',
      run: () =>
        forAllTokens(create({}), async (_, sample) => {
          await identity({ keepCount: sample.length }, sample, false);
          await identity({ keepCount: sample.length + 1 }, sample, true);
        }),
    },
    { kind: 'keepCount', name: 'keepCount keeps that many', run: counts(tokensFor(create({})), keepCounts) },
    {
      kind: 'keepCount',
      name: 'keepCount other than a positive integer is refused when the reducer is made',
      run: refuses('keepCount', [0, -1, 1.5, NaN, Infinity, '3', null]),
    },
  ];
  return cases.filter(({ kind }) => budgets.includes(kind));
}

function badInputCases({ create }: ReducerConformanceOptions): ConformanceCase[] {
  const refuses = (
    what: string,
    change: (tokens: VisualTokens) => Partial<VisualTokens>,
  ): ConformanceCase => ({
    name: `refuses ${what} with a typed error`,
    run: () =>
      forAllTokens(create({}), (reducer, sample) => {
        const tokens = present(reducer, sample);
        return ensureRejects(FoveateError, () => reducer.plan({ ...tokens, ...change(tokens) }), what);
      }),
  });
  return [
    refuses('no tokens', () => ({ length: 0, spans: [{ start: 0, length: 0 }] })),
    refuses('a length that is no integer', ({ length }) => ({ length: length + 0.5 })),
    refuses('a grid that does not hold the tokens', ({ length }) => ({ grid: { rows: length, columns: 2 } })),
    refuses('a grid of negative sides', ({ length }) => ({ grid: { rows: -1, columns: -length } })),
    refuses('spans that miss tokens', ({ length }) => ({ spans: [{ start: 1, length: length - 1 }] })),
    ...create({})
      .requires.map(signalId)
      .flatMap((id) => badSignalCases(create, id)),
  ];
}

/**
 * A plan is right too where the bad values need not be read: the identity, where there was nothing to choose; any valid plan for keys, which matter only
 * where tokens are merged.
 */
function badSignalCases(create: ReducerConformanceOptions['create'], id: string): ConformanceCase[] {
  const keys = id.startsWith('keys');
  const refuses = (what: string, change?: (values: Float32Array) => Float32Array): ConformanceCase => ({
    name: `refuses ${id} ${what} with a typed error`,
    run: () =>
      forAllTokens(create({}), async (reducer, sample) => {
        const others = sample.signals.filter((signal) => signalId(signal) !== id);
        const changed = sample.signals
          .filter((signal) => change && signalId(signal) === id)
          .map((signal) => ({ ...signal, values: change?.(signal.values) ?? signal.values }));
        const tokens = present(reducer, { ...sample, signals: [...others, ...changed] });
        const plan = await reducer.plan(tokens).catch((error: unknown) => {
          ensure(FoveateError.isInstance(error), `${what}: was thrown ${String(error)}`);
        });
        if (!plan) return;
        createPlan(plan);
        ensure(keys || isIdentity(plan), `${what}: nothing was thrown, and some tokens were dropped`);
      }),
  });
  const last = (value: number) => (values: Float32Array) => values.with(-1, value);
  return [
    refuses('with NaN', last(NaN)),
    refuses('with Infinity', last(Infinity)),
    refuses('with -Infinity', last(-Infinity)),
    ...(keys ? [] : [refuses('with a negative value', last(-0.25))]),
    refuses('of no values', () => new Float32Array(0)),
    refuses('with a value too many', (values) => Float32Array.from([...values, 0.5])),
    refuses('that is missing'),
  ];
}

/** The sample as a runner presents it: one image with its grid, or the images of a prompt without one. */
function present({ stage }: TokenReducer, { length, grid, key, signals }: TokenSample): VisualTokens {
  if (stage === 'vision') return createVisualTokens({ length, grid, key, signals });
  const spans = [
    { start: 0, length: grid.columns },
    { start: grid.columns, length: length - grid.columns },
  ];
  return createVisualTokens({ length, spans, key, signals });
}

function tokensFor({ requires }: TokenReducer, levels: number = someLevels): fc.Arbitrary<TokenSample> {
  return arbitraryTokens(requires, levels);
}

function forAllTokens(
  reducer: TokenReducer,
  predicate: (reducer: TokenReducer, sample: TokenSample) => Promise<void>,
  levels: number = someLevels,
): Promise<void> {
  return fc.assert(fc.asyncProperty(tokensFor(reducer, levels), (sample) => predicate(reducer, sample)));
}

/** All of a plan in one string. */
function planText(plan: ReductionPlan): string {
  return JSON.stringify(plan, (_, value: unknown) =>
    ArrayBuffer.isView(value) ? Array.from(value as Uint32Array) : value,
  );
}

/** The outputs with their sources renamed, whatever their order: equal for two plans that keep and merge the same. */
function outputsText(
  { outputLength, offsets, sources, weights }: ReductionPlan,
  rename: (source: number) => number,
): string {
  return Array.from({ length: outputLength }, (_, m) =>
    Array.from(sources.subarray(offsets[m], offsets[m + 1]), (source, e) => [
      rename(source),
      weights?.[offsets[m] + e] ?? 1,
    ])
      .sort(([a], [b]) => a - b)
      .join(' '),
  )
    .sort()
    .join('; ');
}
