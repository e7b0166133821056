import * as fc from 'fast-check';
import { resolveBudget, type Budget } from '../budget.js';
import { FoveateError, GridRequiredError, InvalidArgumentError } from '../errors.js';
import { isIdentity, isSelection, type Grid, type ReductionPlan } from '../plan.js';
import { planTokens, type TokenReducer } from '../reducer.js';
import type { GraphRule, TopKRule } from '../rules.js';
import { requestAt, signalId, type SignalRequest } from '../signals/define-signal.js';
import { checkSite, siteId, siteMadeFor, type DeclaredSite } from '../sites.js';
import { createTokens, requestsOf, type TokenSource } from '../token-source.js';
import { topIndicesAscending } from '../top-indices.js';
import { arbitraryTokens, type TokenSample } from './arbitraries.js';
import { ConformanceError, ensure, ensureRejects, type ConformanceCase } from './conformance-case.js';
import { arbitraryPermutation, distinctLevels, equalUnit, permuteUnits, unitSize } from './units.js';

/** What a reducer claims of itself, and so what is tested. */
export interface ReducerConformanceOptions {
  /** Makes the reducer under test: with this budget, or with its default where none is given. */
  readonly create: (options: { keepRatio?: number; keepCount?: number }) => TokenReducer;
  /** How the reducer gets to see the tokens. Default: with all signals at hand. */
  readonly tokens?: (source: TokenSource) => TokenSource;
  /** The kinds of budget that it takes. Default both; `[]` where the method alone decides. */
  readonly budgets?: readonly BudgetKind[];
  /** Output tokens for a budget. Default: exactly what `resolveBudget` says. */
  readonly expectedLength?: (
    budget: Budget,
    tokens: { length: number; grid: Grid },
    stage: number, // index of the site
  ) => number;
  /** Whether it throws `GridRequiredError` without a grid. Default false. */
  readonly needsGrid?: boolean;
  /** Whether every plan is a pure selection. Default true. */
  readonly selects?: boolean;
  /** Whether outputs stand in the order of their anchors. Default true. */
  readonly ascending?: boolean;
  /**
   * Set where the method looks at signals alone: moving whole tokens (or whole grid rows) moves what is kept
   * with them, and of two with equal signals the lower index is kept first. Absent where place or chance
   * matters (uniform, random, pooling).
   */
  readonly ranks?: 'tokens' | 'rows';
}

type BudgetKind = 'keepRatio' | 'keepCount';

/** Few enough for ties, many enough for different choices. */
const someLevels = 8;

/**
 * The tests that every reducer passes, for any test runner:
 * `for (const { name, run } of reducerConformance({ create: mine })) test(name, run);`
 */
export function reducerConformance(options: ReducerConformanceOptions): ConformanceCase[] {
  return options.create({}).at.flatMap((_, index, { length }) => {
    const subject: Subject = { ...options, index };
    const cases = [
      ...interfaceCases(subject),
      ...planCases(subject),
      ...ruleCases(subject),
      ...(options.ranks ? rankingCases(subject, options.ranks) : []),
      ...budgetCases(subject),
      ...badInputCases(subject),
    ];
    if (length === 1) return cases;
    return cases.map(({ name, run }) => ({ name: `site ${index + 1} of ${length}: ${name}`, run }));
  });
}

/** A reducer at one of its sites. */
interface Subject extends ReducerConformanceOptions {
  /** Of the site. */
  readonly index: number;
}

function interfaceCases({ create }: Subject): ConformanceCase[] {
  return [
    {
      name: 'has the interface of a reducer',
      run: async () => {
        const reducer = create({});
        const { name, at, rule, requires } = reducer;
        ensure((reducer.specificationVersion as number) === 2, 'specificationVersion must be 2');
        ensure(/^[a-z][a-z0-9-]*$/.test(name), `name ${JSON.stringify(name)} must match [a-z0-9-]+`);
        for (const [index, site] of at.entries()) checkSite(`at[${index}]`, site);
        ensure(new Set(at.map(siteId)).size === at.length, 'at must name each site once');
        for (const site of at) requestsOf(requires, site); // throws where a signal is of another tower
        const ids = Object.values(requires).map((required) =>
          'similarityBy' in required
            ? `neighbours by ${signalId(required.similarityBy)}`
            : signalId(required),
        );
        ensure(new Set(ids).size === ids.length, `requires must name each signal once: ${ids.join(', ')}`);
        ensure(!rule || Object.hasOwn(requires, readByRule(rule)), 'rule must name a signal in requires');
      },
    },
  ];
}

/** What a rule reads, by its name in `requires`. */
function readByRule(rule: GraphRule): string {
  switch (rule.rule) {
    case 'top-k':
      return rule.score;
    case 'merge-bipartite':
      return rule.metric;
  }
}

/**
 * A runner may follow the rule in place of the plan, so that the two must keep the same tokens. What merging
 * layer by layer comes to depends on the layers, so that it is the runner's tests that compare it.
 */
function ruleCases(subject: Subject): ConformanceCase[] {
  const { create } = subject;
  const { rule } = create({});
  if (rule?.rule !== 'top-k') return [];
  return [
    {
      name: 'its rule keeps the same tokens as its plan',
      run: () =>
        forAllTokens(subject, async (sample) => {
          const reducer = create({});
          const { sources } = await planFor(subject, reducer, sample);
          const kept = tokensByRule(reducer, rule, siteOf(subject), sample);
          ensure(
            kept.join() === sources.join(),
            `the rule keeps ${kept.join(', ')}, the plan ${sources.join(', ')}`,
          );
        }),
    },
  ];
}

function tokensByRule(
  { requires }: TokenReducer,
  rule: TopKRule,
  site: DeclaredSite,
  sample: TokenSample,
): Uint32Array {
  const required = requires[rule.score];
  if ('similarityBy' in required) throw new ConformanceError('rule.score must be a signal [N]');
  const id = signalId(requestAt(required, siteMadeFor(site)));
  const scores = sample.signals.find((signal) => signalId(signal) === id)?.values ?? [];
  return topIndicesAscending(scores, resolveBudget(rule.budget, sample.length).count);
}

function planCases(subject: Subject): ConformanceCase[] {
  const { create, needsGrid = false, selects = true, ascending = true } = subject;
  return [
    {
      name: 'makes a valid plan and leaves the values of signals alone',
      run: () =>
        forAllTokens(subject, async (sample) => {
          const before = sample.signals.map(({ values }) => values.slice());
          const plan = await planFor(subject, create({}), sample);
          ensure(!selects || isSelection(plan), 'the plan must be a pure selection');
          const { anchors } = plan;
          const ordered = anchors.every((anchor, m) => m === 0 || anchor > anchors[m - 1]);
          ensure(
            !ascending || ordered,
            `outputs must stand in the order of their anchors: ${anchors.join(', ')}`,
          );
          const same = sample.signals.every(({ values }, s) =>
            values.every((value, i) => value === before[s][i]),
          );
          ensure(same, 'plan changed the values of a signal');
        }),
    },
    {
      name: 'makes the same plan for the same tokens, whatever it planned before or meanwhile',
      run: async () => {
        const reducer = create({});
        await fc.assert(
          fc.asyncProperty(tokensFor(subject), tokensFor(subject), async (first, second) => {
            const plan = (sample: TokenSample): Promise<ReductionPlan> => planFor(subject, reducer, sample);
            const expected = planText(await planFor(subject, create({}), first));
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
        forAllTokens(subject, async ({ length, imageHash, signals }) => {
          const plan = (): Promise<ReductionPlan> =>
            planSource(
              subject,
              create({}),
              createTokens({ length, imageHash, signals, ...placeOf(subject) }),
            );
          if (needsGrid) await ensureRejects(GridRequiredError, plan, 'no grid');
          else await plan();
        }),
    },
  ];
}

function rankingCases(subject: Subject, ranks: 'tokens' | 'rows'): ConformanceCase[] {
  return [
    {
      name: `keeps the same ${ranks} when they are permuted`,
      run: async () => {
        const reducer = subject.create({});
        const samples = arbitraryPermutation(tokensFor(subject, distinctLevels), ranks);
        await fc.assert(
          fc.asyncProperty(samples, async ({ sample, order }) => {
            const { moved, origin } = permuteUnits(sample, order, ranks);
            const plan = await planFor(subject, reducer, sample);
            const movedPlan = await planFor(subject, reducer, moved);
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
          subject,
          async (sample) => {
            const { anchors } = await planFor(subject, subject.create({}), sample);
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

function budgetCases(subject: Subject): ConformanceCase[] {
  const { create, budgets = ['keepRatio', 'keepCount'] } = subject;
  const expectedLength =
    subject.expectedLength ??
    ((budget: Budget, { length }: TokenSample) => resolveBudget(budget, length).count);
  const identity = async (budget: Budget, sample: TokenSample, warns: boolean): Promise<void> => {
    const plan = await planFor(subject, create(budget), sample);
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
        const { outputLength } = await planFor(subject, create(asked), sample);
        const expected = expectedLength(asked, sample, subject.index);
        ensure(
          outputLength === expected,
          `${JSON.stringify(asked)} of ${sample.length} tokens must keep ${expected}; kept ${outputLength}`,
        );
      }),
    );
  const refuses = (kind: BudgetKind, values: readonly unknown[]) => async () => {
    for (const value of values) {
      const budget = { [kind]: value } as unknown as { keepRatio?: number };
      await ensureRejects(InvalidArgumentError, () => create(budget), `${kind} ${String(value)}`);
    }
  };
  const ratios = fc.integer({ min: 1, max: 100 }).map((percent) => ({ keepRatio: percent / 100 }));
  const keepCounts = fc.integer({ min: 1, max: 40 }).map((keepCount) => ({ keepCount }));
  const hundred = arbitraryTokens(requestsFor(subject), someLevels, fc.constant({ rows: 10, columns: 10 }));
  const cases: (ConformanceCase & { kind: BudgetKind })[] = [
    {
      kind: 'keepRatio',
      name: 'keepRatio 1 is the identity',
      run: () => forAllTokens(subject, (sample) => identity({ keepRatio: 1 }, sample, false)),
    },
    { kind: 'keepRatio', name: 'keepRatio keeps its share', run: counts(tokensFor(subject), ratios) },
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
        forAllTokens(subject, async (sample) => {
          await identity({ keepCount: sample.length }, sample, false);
          await identity({ keepCount: sample.length + 1 }, sample, true);
        }),
    },
    { kind: 'keepCount', name: 'keepCount keeps that many', run: counts(tokensFor(subject), keepCounts) },
    {
      kind: 'keepCount',
      name: 'keepCount other than a positive integer is refused when the reducer is made',
      run: refuses('keepCount', [0, -1, 1.5, NaN, Infinity, '3', null]),
    },
  ];
  return cases.filter(({ kind }) => budgets.includes(kind));
}

function badInputCases(subject: Subject): ConformanceCase[] {
  const refuses = (what: string, change: (tokens: TokenSource) => Partial<TokenSource>): ConformanceCase => ({
    name: `refuses ${what} with a typed error`,
    run: () =>
      forAllTokens(subject, (sample) => {
        const tokens = sourceOf(subject, sample);
        const plan = (): Promise<ReductionPlan> =>
          planSource(subject, subject.create({}), { ...tokens, ...change(tokens) });
        return ensureRejects(FoveateError, plan, what);
      }),
  });
  return [
    refuses('no tokens', () => ({ length: 0, spans: [{ start: 0, length: 0 }] })),
    refuses('a length that is no integer', ({ length }) => ({ length: length + 0.5 })),
    refuses('a grid that does not hold the tokens', ({ length }) => ({ grid: { rows: length, columns: 2 } })),
    refuses('a grid of negative sides', ({ length }) => ({ grid: { rows: -1, columns: -length } })),
    refuses('spans that miss tokens', ({ length }) => ({ spans: [{ start: 1, length: length - 1 }] })),
    ...requestsFor(subject).flatMap((request) => badSignalCases(subject, request)),
  ];
}

/**
 * Where only neighbours by the signal are asked for, a plan may be right without them: they matter only where
 * tokens are merged. Then, and where a longer signal is one too, any valid plan will do.
 */
function badSignalCases(subject: Subject, request: SignalRequest): ConformanceCase[] {
  const id = signalId(request);
  const isRead = Object.values(subject.create({}).requires).some(
    (required) => 'signal' in required && signalId(requestAt(required, siteMadeFor(siteOf(subject)))) === id,
  );
  const refuses = (
    what: string,
    change?: (values: Float32Array) => Float32Array,
    always: boolean = isRead,
  ): ConformanceCase => ({
    name: `refuses ${id} ${what} with a typed error`,
    run: () =>
      forAllTokens(subject, async (sample) => {
        const others = sample.signals.filter((signal) => signalId(signal) !== id);
        const changed = sample.signals
          .filter((signal) => change && signalId(signal) === id)
          .map((signal) => ({ ...signal, values: change?.(signal.values) ?? signal.values }));
        const plan = planFor(subject, subject.create({}), { ...sample, signals: [...others, ...changed] });
        const made = await plan.catch((error: unknown) => {
          ensure(FoveateError.isInstance(error), `${what}: was thrown ${String(error)}`);
        });
        ensure(!always || !made, `${what}: nothing was thrown`);
      }),
  });
  const last = (value: number) => (values: Float32Array) => values.with(-1, value);
  return [
    refuses('with NaN', last(NaN)),
    refuses('with Infinity', last(Infinity)),
    refuses('with -Infinity', last(-Infinity)),
    ...(request.signal.range === 'real' ? [] : [refuses('with a negative value', last(-0.25))]),
    refuses('of no values', () => new Float32Array(0)),
    refuses(
      'with a value too many',
      (values) => Float32Array.from([...values, 0.5]),
      isRead && request.signal.shape.every((axis) => axis === 'N'),
    ),
    refuses('that is missing'),
  ];
}

function siteOf({ create, index }: Subject): DeclaredSite {
  return create({}).at[index];
}

/** The signals that the reducer reads, neighbours' rows included. */
function requestsFor(subject: Subject): SignalRequest[] {
  return requestsOf(subject.create({}).requires, siteOf(subject));
}

/** Inside the layers of an encoder: one of CLIP-L/14's depth, with a class token. */
const insideEncoder = { layers: 23, prefixTokens: 1 };

/** Where tokens are, for a method that acts inside the encoder's layers. */
function placeOf(subject: Subject): Pick<TokenSource, 'encoder'> {
  const site = siteMadeFor(siteOf(subject));
  return site.tower === 'vision' && site.within ? { encoder: insideEncoder } : {};
}

/** The sample as a runner presents it: one image with its grid, or the images of a prompt without one. */
function sourceOf(subject: Subject, { length, grid, imageHash, signals }: TokenSample): TokenSource {
  const place = placeOf(subject);
  if (siteOf(subject).tower === 'vision') return createTokens({ length, grid, imageHash, signals, ...place });
  const spans = [
    { start: 0, length: grid.columns },
    { start: grid.columns, length: length - grid.columns },
  ];
  return createTokens({ length, spans, imageHash, signals });
}

function planFor(subject: Subject, reducer: TokenReducer, sample: TokenSample): Promise<ReductionPlan> {
  return planSource(subject, reducer, sourceOf(subject, sample));
}

function planSource(subject: Subject, reducer: TokenReducer, source: TokenSource): Promise<ReductionPlan> {
  const { tokens = (same: TokenSource) => same } = subject;
  return planTokens(reducer, tokens(source), siteOf(subject));
}

function tokensFor(subject: Subject, levels: number = someLevels): fc.Arbitrary<TokenSample> {
  return arbitraryTokens(requestsFor(subject), levels);
}

function forAllTokens(
  subject: Subject,
  predicate: (sample: TokenSample) => Promise<void>,
  levels: number = someLevels,
): Promise<void> {
  return fc.assert(fc.asyncProperty(tokensFor(subject, levels), predicate));
}

/** All of a plan in one string. */
function planText(plan: ReductionPlan): string {
  return JSON.stringify(plan, (_, value: unknown) =>
    ArrayBuffer.isView(value) ? Array.from(value as Uint32Array) : value,
  );
}

/**
 * The outputs with their sources renamed, whatever their order: equal for two plans that keep and merge the
 * same.
 */
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
