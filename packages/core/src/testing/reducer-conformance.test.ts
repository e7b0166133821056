import { describe, expect, it, test } from 'vitest';
import { checkBudget, resolveBudget, type Budget } from '../budget.js';
import { GridRequiredError } from '../errors.js';
import {
  createPlan,
  identityPlan,
  isIdentity,
  mergePlan,
  selectionPlan,
  type ReductionPlan,
} from '../plan.js';
import { defineReducer, type TokenReducer } from '../reducer.js';
import { topK } from '../rules.js';
import { attentionReceived } from '../signals/attention-received.js';
import type { SignalRequest } from '../signals/define-signal.js';
import { keys } from '../signals/keys.js';
import { promptAttention } from '../signals/prompt-attention.js';
import { textEmbeddings } from '../signals/text-embeddings.js';
import { atFeatures, beforeLanguageLayer, beforeVisionLayer, type Site } from '../sites.js';
import { similarityBy, type SimilarityRequest, type VisualTokens } from '../token-source.js';
import { topIndices } from '../top-indices.js';
import { reducerConformance, type ReducerConformanceOptions } from './reducer-conformance.js';

type Tokens = VisualTokens<{ received: SignalRequest }>;
type Method = (tokens: Tokens, budget: Budget, site: Site) => Promise<ReductionPlan>;
type BudgetGiven = Parameters<ReducerConformanceOptions['create']>[0];

/** A right reducer: the tokens of the highest attention received, ascending. */
async function keepTop({ length, signals }: Tokens, budget: Budget): Promise<ReductionPlan> {
  const { count, warnings } = resolveBudget(budget, length);
  return selectionPlan(topIndices(signals.received, count).sort(), length, { warnings });
}

/** The budget as it was given, unchecked; half of the tokens where none was. */
function givenBudget(given: BudgetGiven): Budget {
  return Object.keys(given).length === 0 ? { keepRatio: 0.5 } : (given as Budget);
}

/** A reducer of a method, its budget checked when it is made. */
function guarded(
  method: Method,
  definition: Partial<TokenReducer> = {},
): (given: BudgetGiven) => TokenReducer {
  return (given) => unguarded(method, definition)({ ...checkBudget(givenBudget(given)) });
}

/**
 * The same without defineReducer's check of the definition, and with a budget that is looked at when it
 * plans.
 */
function unguarded(
  method: Method,
  definition: Partial<TokenReducer> = {},
): (given: BudgetGiven) => TokenReducer {
  return (given) => ({
    specificationVersion: 2,
    name: 'mine',
    at: [atFeatures],
    requires: { received: attentionReceived() },
    plan: (tokens, site) => method(tokens as Tokens, givenBudget(given), site),
    ...definition,
  });
}

async function failures(options: ReducerConformanceOptions): Promise<string[]> {
  const failed: string[] = [];
  for (const { name, run } of reducerConformance(options)) await run().catch(() => failed.push(name));
  return failed;
}

describe('a right reducer passes', () => {
  const create = (given: BudgetGiven): TokenReducer => defineReducer(guarded(keepTop)(given));
  for (const { name, run } of reducerConformance({ create, ranks: 'tokens' })) test(name, run);
});

describe('a right reducer passes that was not made by defineReducer', () => {
  for (const { name, run } of reducerConformance({ create: guarded(keepTop), ranks: 'tokens' }))
    test(name, run);
});

describe('a right language reducer passes', () => {
  const create = (given: BudgetGiven): TokenReducer => {
    const budget = checkBudget(givenBudget(given));
    return defineReducer({
      name: 'mine',
      at: [beforeLanguageLayer(2)],
      requires: { attention: promptAttention() },
      rule: topK('attention', budget),
      plan: async ({ length, signals }) => {
        const { count, warnings } = resolveBudget(budget, length);
        return selectionPlan(topIndices(signals.attention, count).sort(), length, { warnings });
      },
    });
  };
  const cases = reducerConformance({ create, ranks: 'tokens' });
  for (const { name, run } of cases) test(name, run);

  it('and its rule was tried', () => {
    expect(cases.map(({ name }) => name)).toContain('its rule keeps the same tokens as its plan');
  });
});

type Merging = VisualTokens<{ received: SignalRequest; similar: SimilarityRequest }>;

/** Merges into each of the most attended tokens half of its nearest. */
async function mergeNearest({ length, signals }: Merging, budget: Budget): Promise<ReductionPlan> {
  const { count, warnings } = resolveBudget(budget, length);
  if (count === length) return identityPlan(count, { warnings });
  const kept = topIndices(signals.received, count);
  const nearest = await signals.similar.nearest(kept, 1);
  const outputs = Array.from(kept, (token, m) => ({ sources: [token, nearest[m]], weights: [1, 0.5] }));
  return mergePlan(outputs, length, { warnings });
}

describe('a right merge of neighbours by their keys passes', () => {
  const create = (given: BudgetGiven): TokenReducer => {
    const budget = checkBudget(givenBudget(given));
    return defineReducer({
      name: 'mine',
      at: [atFeatures],
      requires: { received: attentionReceived(), similar: similarityBy(keys({ layer: -1 })) },
      plan: (tokens) => mergeNearest(tokens, budget),
    });
  };
  const cases = reducerConformance({ create, ranks: 'tokens', selects: false, ascending: false });
  for (const { name, run } of cases) test(name, run);
});

describe('a right reducer passes that reads rows, their neighbours, and what is no token’s', () => {
  const create = (given: BudgetGiven): TokenReducer => {
    const budget = checkBudget(givenBudget(given));
    return defineReducer({
      name: 'mine',
      at: [atFeatures],
      requires: { rows: keys(), similar: similarityBy(keys()), question: textEmbeddings() },
      plan: async ({ length, signals: { rows, question } }) => {
        const { count, warnings } = resolveBudget(budget, length);
        const channels = rows.length / length;
        const scores = Float64Array.from({ length }, (_, token) =>
          question.reduce((sum, value, d) => sum + value * rows[token * channels + (d % channels)], 0),
        );
        return selectionPlan(topIndices(scores, count).sort(), length, { warnings });
      },
    });
  };
  for (const { name, run } of reducerConformance({ create, ranks: 'tokens' })) test(name, run);
});

describe('at two sites:', () => {
  const at = [beforeVisionLayer(3), atFeatures];
  const definition = { at, requires: { received: attentionReceived({ layer: 'before' }) } };

  describe('a right reducer passes', () => {
    const cases = reducerConformance({ create: guarded(keepTop, definition), ranks: 'tokens' });
    for (const { name, run } of cases) test(name, run);

    it('every case at each of them', () => {
      const names = cases.map(({ name }) => name);
      expect(names).toContain('site 1 of 2: refuses attentionReceived@2:patches with NaN with a typed error');
      expect(names).toContain(
        'site 2 of 2: refuses attentionReceived@features:patches with NaN with a typed error',
      );
      expect(names.filter((name) => name.startsWith('site 1 of 2: '))).toHaveLength(names.length / 2);
    });
  });

  it('a reducer that is broken at the second fails there alone', async () => {
    const create = guarded(async (tokens, budget, site) => {
      if (site.layer !== 'features') return keepTop(tokens, budget);
      return selectionPlan([0], tokens.length);
    }, definition);
    const failed = await failures({ create });
    expect(failed).toContain('site 2 of 2: keepRatio 1 is the identity');
    expect(failed).toContain('site 2 of 2: keepCount keeps that many');
    expect(failed.filter((name) => name.startsWith('site 1'))).toEqual([]);
  });

  it('a reducer that remembers its other site fails', async () => {
    let last: ReductionPlan | undefined;
    const create = guarded(async (tokens, budget, site) => {
      const plan = await keepTop(tokens, budget);
      if (site.layer !== 'features') last = plan;
      else if (last?.inputLength === plan.inputLength) return last;
      return plan;
    }, definition);
    const failed = await failures({ create, ranks: 'tokens' });
    expect(failed.some((name) => name.startsWith('site 2 of 2: '))).toBe(true);
  });
});

describe('a broken reducer fails, and in what it breaks:', () => {
  const count = ({ length }: Tokens, budget: Budget): number => resolveBudget(budget, length).count;
  const warningsOf = ({ length }: Tokens, budget: Budget): readonly string[] =>
    resolveBudget(budget, length).warnings;
  const interfaceCase = 'has the interface of a reducer';
  const validCase = 'makes a valid plan and leaves the values of signals alone';

  const broken: [what: string, options: ReducerConformanceOptions, failing: string[]][] = [
    [
      'another specification version',
      { create: guarded(keepTop, { specificationVersion: 1 as 2 }) },
      [interfaceCase],
    ],
    ['a name with capitals', { create: guarded(keepTop, { name: 'Mine' }) }, [interfaceCase]],
    ['layer 0', { create: guarded(keepTop, { at: [beforeVisionLayer(0)] }) }, [interfaceCase]],
    [
      'one site twice',
      { create: guarded(keepTop, { at: [atFeatures, atFeatures] }) },
      [`site 1 of 2: ${interfaceCase}`],
    ],
    [
      'one signal under two names',
      {
        create: guarded(keepTop, {
          requires: { received: attentionReceived(), again: attentionReceived({ layer: 'features' }) },
        }),
      },
      [interfaceCase],
    ],
    [
      'a rule by a signal that it does not require',
      { create: guarded(keepTop, { rule: topK('attention', { keepRatio: 0.5 }) }) },
      [interfaceCase, 'its rule keeps the same tokens as its plan'],
    ],
    [
      'a rule that keeps fewer than the plan',
      { create: guarded(keepTop, { rule: topK('received', { keepRatio: 0.25 }) }) },
      ['its rule keeps the same tokens as its plan'],
    ],
    [
      'a signal that it does not require',
      {
        create: guarded(async (tokens, budget) => {
          const { classAttention } = tokens.signals as Tokens['signals'] & { classAttention: Float32Array };
          const scores = tokens.signals.received.map((score, i) => score + classAttention[i]);
          return keepTop({ ...tokens, signals: { received: scores } }, budget);
        }),
      },
      [validCase],
    ],
    [
      'sorting the signal in place',
      {
        create: guarded(async (tokens, budget) => {
          const plan = await keepTop(tokens, budget);
          tokens.signals.received.sort();
          return plan;
        }),
      },
      [validCase],
    ],
    [
      'ties to the higher index',
      {
        create: guarded(async (tokens, budget) => {
          const scores = [...tokens.signals.received].reverse();
          const kept = [...topIndices(scores, count(tokens, budget))].map((i) => tokens.length - 1 - i);
          return selectionPlan(
            kept.sort((a, b) => a - b),
            tokens.length,
            { warnings: warningsOf(tokens, budget) },
          );
        }),
        ranks: 'tokens',
      },
      ['keeps the lower index of tokens with equal signals'],
    ],
    [
      'a preference for the first token',
      {
        create: guarded(async (tokens, budget) => {
          const scores = tokens.signals.received.with(0, 2);
          const kept = topIndices(scores, count(tokens, budget)).sort();
          return selectionPlan(kept, tokens.length, { warnings: warningsOf(tokens, budget) });
        }),
        ranks: 'tokens',
      },
      ['keeps the same tokens when they are permuted'],
    ],
    [
      'Math.round in place of Math.floor',
      {
        create: guarded(async (tokens, budget) => {
          if ('keepCount' in budget) return keepTop(tokens, budget);
          const kept = Math.max(1, Math.round(tokens.length * budget.keepRatio));
          return keepTop(tokens, { keepCount: kept });
        }),
      },
      ['keepRatio keeps its share'],
    ],
    [
      'floor without its 1e-9',
      {
        create: guarded(async (tokens, budget) => {
          if ('keepCount' in budget) return keepTop(tokens, budget);
          const kept = Math.max(1, Math.floor(tokens.length * budget.keepRatio));
          return keepTop(tokens, { keepCount: kept });
        }),
      },
      ['keepRatio keeps its share of 100 tokens where 100 * r falls just short of a whole number'],
    ],
    [
      'nothing said of a budget that is too large',
      {
        create: guarded(async (tokens, budget) =>
          createPlan({ ...(await keepTop(tokens, budget)), warnings: [] }),
        ),
      },
      ['keepCount of all tokens is the identity, and of more warns'],
    ],
    [
      'descending order',
      {
        create: guarded(async (tokens, budget) => {
          const kept = topIndices(tokens.signals.received, count(tokens, budget));
          return selectionPlan(kept, tokens.length, { warnings: warningsOf(tokens, budget) });
        }),
      },
      [
        validCase,
        'keepRatio 1 is the identity',
        'keepCount of all tokens is the identity, and of more warns',
      ],
    ],
    [
      'a merge that calls itself a selection',
      {
        create: guarded(async (tokens, budget) => {
          const plan = await keepTop(tokens, budget);
          return isIdentity(plan) ? plan : createPlan({ ...plan, weights: plan.sources.map(() => 2) });
        }),
      },
      [validCase],
    ],
    [
      'an invalid plan',
      {
        create: guarded(async (tokens, budget) => {
          const plan = await keepTop(tokens, budget);
          return isIdentity(plan) ? plan : { ...plan, sources: plan.sources.map(() => tokens.length) };
        }),
      },
      [validCase, 'plans without a grid'],
    ],
    [
      'a memory of the tokens before',
      (() => {
        let calls = 0;
        return {
          create: guarded(async (tokens, budget) => {
            const scores = tokens.signals.received.map((score, i) => score + (calls % 3) * i);
            calls++;
            const kept = topIndices(scores, count(tokens, budget)).sort();
            return selectionPlan(kept, tokens.length, { warnings: warningsOf(tokens, budget) });
          }),
        };
      })(),
      ['makes the same plan for the same tokens, whatever it planned before or meanwhile'],
    ],
    [
      'a plain error without a grid',
      {
        create: guarded(async (tokens, budget) => {
          if (!tokens.grid) throw new TypeError('grid of undefined');
          return keepTop(tokens, budget);
        }),
        needsGrid: true,
      },
      ['throws GridRequiredError without a grid'],
    ],
    [
      'a grid that it said it needs and does not',
      { create: guarded(keepTop), needsGrid: true },
      ['throws GridRequiredError without a grid'],
    ],
    [
      'a grid that it needs and did not say',
      {
        create: guarded(async (tokens, budget) => {
          if (!tokens.grid) throw new GridRequiredError('mine', tokens.length);
          return keepTop(tokens, budget);
        }),
      },
      ['plans without a grid'],
    ],
    [
      'a budget that is looked at only when planning',
      { create: unguarded(keepTop) },
      [
        'keepRatio outside (0, 1] is refused when the reducer is made',
        'keepCount other than a positive integer is refused when the reducer is made',
      ],
    ],
    [
      'tokens that come to it unchecked',
      {
        create: guarded(keepTop),
        // What is wrong with the tokens is mended before anyone can refuse it.
        tokens: (source) => ({
          ...source,
          length: Math.max(1, Math.floor(source.length)),
          grid: { rows: 1, columns: Math.max(1, Math.floor(source.length)) },
          spans: [{ start: 0, length: Math.max(1, Math.floor(source.length)) }],
          signal: async () => new Float32Array(Math.max(1, Math.floor(source.length))).fill(0.5),
        }),
      },
      [
        'refuses no tokens with a typed error',
        'refuses a length that is no integer with a typed error',
        'refuses a grid that does not hold the tokens with a typed error',
        'refuses a grid of negative sides with a typed error',
        'refuses spans that miss tokens with a typed error',
        'refuses attentionReceived@features:patches with NaN with a typed error',
        'refuses attentionReceived@features:patches with Infinity with a typed error',
        'refuses attentionReceived@features:patches with -Infinity with a typed error',
        'refuses attentionReceived@features:patches with a negative value with a typed error',
        'refuses attentionReceived@features:patches of no values with a typed error',
        'refuses attentionReceived@features:patches with a value too many with a typed error',
        'refuses attentionReceived@features:patches that is missing with a typed error',
      ],
    ],
    [
      'a plain error on rows that cannot be compared',
      {
        create: guarded(
          async (tokens, budget) => {
            const plan = await mergeNearest(tokens as unknown as Merging, budget).catch((error: unknown) => {
              throw new RangeError('no neighbours', { cause: error });
            });
            return plan;
          },
          { requires: { received: attentionReceived(), similar: similarityBy(keys()) } },
        ),
        selects: false,
        ascending: false,
      },
      [
        'refuses keys@features:joined with NaN with a typed error',
        'refuses keys@features:joined that is missing with a typed error',
      ],
    ],
  ];

  it.each(broken)('%s', async (_, options, failing) => {
    const failed = await failures(options);
    for (const name of failing) expect(failed).toContain(name);
  });
});
