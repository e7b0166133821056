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
import { defineReducer, type LanguageReducer, type TokenReducer, type VisionReducer } from '../reducer.js';
import type { SignalRequest } from '../signals.js';
import { topIndices } from '../top-indices.js';
import type { VisualTokens } from '../visual-tokens.js';
import { reducerConformance, type ReducerConformanceOptions } from './reducer-conformance.js';

const received: SignalRequest = { signal: 'attentionReceived' };

/** A right reducer: the tokens of the highest attention received, ascending. */
async function keepTop(tokens: VisualTokens, budget: Budget): Promise<ReductionPlan> {
  const { count, warnings } = resolveBudget(budget, tokens.length);
  const scores = await tokens.signal(received);
  return selectionPlan(topIndices(scores, count).sort(), tokens.length, { warnings });
}

type Method = (tokens: VisualTokens, budget: Budget) => Promise<ReductionPlan>;

function factory(
  method: Method,
  definition: Partial<VisionReducer> = {},
): (options: { budget?: Budget }) => TokenReducer {
  return ({ budget = { keepRatio: 0.5 } }) =>
    defineReducer<VisionReducer>({
      specificationVersion: 1,
      name: 'mine',
      stage: 'vision',
      requires: [received],
      plan: (tokens) => method(tokens, checkBudget(budget)),
      ...definition,
    });
}

/** Without defineReducer's guards, and with a budget that is checked when the reducer is made. */
function unguarded(
  method: Method,
  definition: Partial<VisionReducer> = {},
): (options: { budget?: Budget }) => TokenReducer {
  return ({ budget = { keepRatio: 0.5 } }) => {
    checkBudget(budget);
    return {
      specificationVersion: 1,
      name: 'mine',
      stage: 'vision',
      requires: [received],
      plan: (tokens) => method(tokens, budget),
      ...definition,
    };
  };
}

function guarded(
  method: Method,
  definition: Partial<VisionReducer> = {},
): (options: { budget?: Budget }) => TokenReducer {
  return (options) => {
    if (options.budget) checkBudget(options.budget);
    return factory(method, definition)(options);
  };
}

async function failures(options: ReducerConformanceOptions): Promise<string[]> {
  const failed: string[] = [];
  for (const { name, run } of reducerConformance(options)) await run().catch(() => failed.push(name));
  return failed;
}

describe('a right reducer passes', () => {
  for (const { name, run } of reducerConformance({ create: guarded(keepTop), ranks: 'tokens' }))
    test(name, run);
});

describe('a right language reducer passes', () => {
  const score: SignalRequest = { signal: 'promptAttention', layer: 1, rows: 'last' };
  const create = ({ budget = { keepRatio: 0.5 } }: { budget?: Budget }): TokenReducer => {
    checkBudget(budget);
    return defineReducer<LanguageReducer>({
      specificationVersion: 1,
      name: 'mine',
      stage: 'language',
      layer: 2,
      requires: [score],
      topK: { score, budget },
      plan: async (tokens) => {
        const { count, warnings } = resolveBudget(budget, tokens.length);
        const kept = topIndices(await tokens.signal(score), count);
        return selectionPlan(kept.sort(), tokens.length, { warnings });
      },
    });
  };
  for (const { name, run } of reducerConformance({ create, ranks: 'tokens' })) test(name, run);
});

describe('a right merge of neighbours by their keys passes', () => {
  const keys: SignalRequest = { signal: 'keys', layer: 'last' };
  const create = guarded(
    async (tokens, budget) => {
      const { count, warnings } = resolveBudget(budget, tokens.length);
      if (count === tokens.length) return identityPlan(count, { warnings });
      const kept = topIndices(await tokens.signal(received), count);
      const nearest = await tokens.nearest(kept, 1, 'last');
      const outputs = Array.from(kept, (token, m) => ({ sources: [token, nearest[m]], weights: [1, 0.5] }));
      return mergePlan(outputs, tokens.length, { warnings });
    },
    { requires: [received, keys] },
  );
  const cases = reducerConformance({ create, ranks: 'tokens', selects: false, ascending: false });
  for (const { name, run } of cases) test(name, run);
});

describe('a broken reducer fails, and in what it breaks:', () => {
  const count = (tokens: VisualTokens, budget: Budget): number => resolveBudget(budget, tokens.length).count;
  const warningsOf = (tokens: VisualTokens, budget: Budget): readonly string[] =>
    resolveBudget(budget, tokens.length).warnings;

  const broken: [what: string, options: ReducerConformanceOptions, failing: string[]][] = [
    [
      'another specification version',
      { create: unguarded(keepTop, { specificationVersion: 2 as 1, name: 'mine' }) },
      ['has the interface of a reducer'],
    ],
    [
      'a name with capitals',
      { create: unguarded(keepTop, { name: 'Mine' }) },
      ['has the interface of a reducer'],
    ],
    [
      'a signal that it does not require',
      {
        create: unguarded(async (tokens, budget) => {
          await tokens.signal({ signal: 'classAttention' }).catch(() => undefined);
          return keepTop(tokens, budget);
        }),
      },
      ['asks only for signals in requires and leaves their values alone'],
    ],
    [
      'sorting the signal in place',
      {
        create: guarded(async (tokens, budget) => {
          const plan = await keepTop(tokens, budget);
          (await tokens.signal(received)).sort();
          return plan;
        }),
      },
      ['asks only for signals in requires and leaves their values alone'],
    ],
    [
      'ties to the higher index',
      {
        create: guarded(async (tokens, budget) => {
          const scores = [...(await tokens.signal(received))].reverse();
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
          const scores = (await tokens.signal(received)).with(0, 2);
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
          const kept = topIndices(await tokens.signal(received), count(tokens, budget));
          return selectionPlan(kept, tokens.length, { warnings: warningsOf(tokens, budget) });
        }),
      },
      [
        'makes a valid plan',
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
      ['makes a valid plan'],
    ],
    [
      'an invalid plan',
      {
        create: unguarded(async (tokens, budget) => {
          const plan = await keepTop(tokens, budget);
          return isIdentity(plan) ? plan : { ...plan, sources: plan.sources.map(() => tokens.length) };
        }),
      },
      ['makes a valid plan', 'plans without a grid'],
    ],
    [
      'a memory of the tokens before',
      (() => {
        let calls = 0;
        return {
          create: guarded(async (tokens, budget) => {
            const scores = (await tokens.signal(received)).map((score, i) => score + (calls % 3) * i);
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
      { create: factory(keepTop) },
      [
        'keepRatio outside (0, 1] is refused when the reducer is made',
        'keepCount other than a positive integer is refused when the reducer is made',
      ],
    ],
    [
      'no guards at all',
      { create: unguarded(keepTop) },
      [
        'refuses a grid that does not hold the tokens with a typed error',
        'refuses a grid of negative sides with a typed error',
        'refuses spans that miss tokens with a typed error',
        'refuses attentionReceived@features with NaN with a typed error',
        'refuses attentionReceived@features with Infinity with a typed error',
        'refuses attentionReceived@features with -Infinity with a typed error',
        'refuses attentionReceived@features with a negative value with a typed error',
        'refuses attentionReceived@features with a value too many with a typed error',
      ],
    ],
  ];

  it.each(broken)('%s', async (_, options, failing) => {
    const failed = await failures(options);
    for (const name of failing) expect(failed).toContain(name);
  });
});
