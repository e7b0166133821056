import { describe, expect, expectTypeOf, it } from 'vitest';
import {
  InvalidArgumentError,
  InvalidPlanError,
  InvalidSignalError,
  SignalUnavailableError,
} from './errors.js';
import { identityPlan, selectionPlan, type ReductionPlan } from './plan.js';
import {
  checkReducer,
  defineReducer,
  planTokens,
  type ReducerDefinition,
  type TokenReducer,
} from './reducer.js';
import { mergeBipartite, topK, type GraphRule } from './rules.js';
import { attentionGiven } from './signals/attention-given.js';
import { attentionReceived } from './signals/attention-received.js';
import { keys } from './signals/keys.js';
import { promptAttention } from './signals/prompt-attention.js';
import {
  atFeatures,
  beforeLanguageLayer,
  beforeVisionLayer,
  insideVisionLayers,
  siteId,
  type Site,
} from './sites.js';
import {
  createTokens,
  requestsOf,
  similarityBy,
  type Similarity,
  type Requirements,
  type TokenSource,
} from './token-source.js';

const definition: ReducerDefinition<Requirements> = {
  name: 'mine',
  at: [atFeatures],
  requires: {},
  plan: async ({ length }) => identityPlan(length),
};

/** Of two tokens, whatever a reducer says of them. */
const planOf = (made: unknown): Promise<ReductionPlan> =>
  planTokens(
    defineReducer({ ...definition, plan: async () => made as ReductionPlan }),
    createTokens({ length: 2 }),
  );

describe('defineReducer', () => {
  it('sets the version and lets a good reducer through', async () => {
    const reducer = defineReducer(definition);
    expect(reducer).toEqual({ specificationVersion: 2, ...definition });
    expect(Object.isFrozen(reducer)).toBe(true);
    expect(await planTokens(reducer, createTokens({ length: 2 }))).toEqual(identityPlan(2));
  });

  it('gives the method its signals by its own names, with their types', async () => {
    const reducer = defineReducer({
      name: 'mine',
      at: [atFeatures],
      requires: { received: attentionReceived(), similar: similarityBy(keys()) },
      plan: async ({ signals, length }) => {
        expectTypeOf(signals.received).toEqualTypeOf<Float32Array>();
        expectTypeOf(signals.similar).toEqualTypeOf<Similarity>();
        expectTypeOf(signals).not.toHaveProperty('given');
        return selectionPlan([signals.received.indexOf(0.75)], length);
      },
    });
    const tokens = createTokens({
      length: 2,
      signals: [{ ...attentionReceived(), values: Float32Array.of(0.25, 0.75) }],
    });
    expect(await planTokens(reducer, tokens)).toEqual(selectionPlan([1], 2));
  });

  it('sets the version whatever a definition in JavaScript says', () => {
    const old = { ...definition, specificationVersion: 1 };
    expect(defineReducer(old).specificationVersion).toBe(2);
  });

  it('may act at several sites, of both towers', async () => {
    const seen: string[] = [];
    const reducer = defineReducer({
      ...definition,
      at: [beforeVisionLayer(4), atFeatures, beforeLanguageLayer(2)],
      plan: async ({ length }, site) => {
        seen.push(siteId(site));
        return identityPlan(length);
      },
    });
    for (const site of reducer.at) await planTokens(reducer, createTokens({ length: 1 }), site);
    expect(seen).toEqual(['vision@4', 'vision@features', 'language@2']);
  });

  const attention = { attention: promptAttention() };
  const rule = topK('attention', { keepCount: 1 });
  const merging = mergeBipartite('similar', { keepCount: 1 });

  it('takes a rule by what is alike', () => {
    const requires = { similar: similarityBy(keys({ layer: 'before', heads: 'mean' })) };
    const reducer = defineReducer({ ...definition, at: [insideVisionLayers], requires, rule: merging });
    expect(reducer.rule).toEqual({ rule: 'merge-bipartite', metric: 'similar', amount: { keepCount: 1 } });
    expect(requestsOf(requires, insideVisionLayers)).toEqual([keys({ layer: 0, heads: 'mean' })]);
  });

  it('takes a rule by one of its signals', () => {
    const at = [beforeLanguageLayer(2)];
    expect(defineReducer({ ...definition, at, requires: attention, rule }).rule).toEqual({
      rule: 'top-k',
      score: 'attention',
      budget: { keepCount: 1 },
    });
  });

  it.each<[string, Partial<ReducerDefinition<Requirements>>, string]>([
    ['a name with spaces', { name: 'My Method' }, 'name must be'],
    ['no site', { at: [] }, 'at must be a list of at least one site'],
    ['one site that is no list', { at: atFeatures as unknown as Site[] }, 'at must be a list'],
    ['layer 0', { at: [beforeLanguageLayer(0)] }, 'at[0] must be'],
    ['a fractional layer', { at: [atFeatures, beforeVisionLayer(1.5)] }, 'at[1] must be'],
    [
      'the features of a language model',
      { at: [{ tower: 'language', layer: 'features' } as never] },
      'at[0]',
    ],
    ['signals in a list', { requires: [keys()] as never }, 'requires must be a record of signals by names'],
    ['a signal that was not called', { requires: { rows: keys as never } }, 'requires must be a record'],
    [
      'a signal of version 1',
      { requires: { rows: { signal: 'keys' } as never } },
      'requires must be a record',
    ],
    ['nothing for a signal', { requires: { rows: null as never } }, 'requires must be a record'],
    ['one site twice', { at: [atFeatures, { ...atFeatures }] }, 'at must be different sites'],
    [
      'a layer before a site of the other tower',
      { at: [atFeatures, beforeLanguageLayer(2)], requires: { rows: keys({ layer: 'before' }) } },
      'keys.layer must be the number of a layer at language@2',
    ],
    ['a score that is not required', { rule }, 'rule.score must be the name of a signal [N] in requires'],
    ['an inherited name as score', { rule: topK('toString', { keepCount: 1 }) }, 'rule.score'],
    ['a score of rows', { requires: { attention: keys() }, rule }, 'rule.score'],
    ['a score of neighbours', { requires: { attention: similarityBy(keys()) }, rule }, 'rule.score'],
    ['a metric that is not required', { rule: merging }, 'rule.metric must be the name of a similarity'],
    ['a metric of values', { requires: { similar: keys() }, rule: merging }, 'rule.metric'],
    [
      'an amount that is none',
      { requires: { similar: similarityBy(keys()) }, rule: { ...merging, amount: {} } as GraphRule },
      'budget must be one of',
    ],
    [
      'a rule without a budget',
      { requires: { attention: attentionGiven() }, rule: { ...rule, budget: {} } as GraphRule },
      'budget must be one of',
    ],
  ])('refuses %s', (_, change, message) => {
    const define = (): unknown => defineReducer({ ...definition, ...change });
    expect(define).toThrow(InvalidArgumentError);
    expect(define).toThrow(message);
  });
});

describe('planTokens', () => {
  const reading = defineReducer({ ...definition, requires: { given: attentionGiven() } });
  const tokens = (values: Float32Array): TokenSource =>
    createTokens({ length: 2, signals: [{ ...attentionGiven(), values }] });

  it('checks the tokens before the method sees them', async () => {
    const wrong = { ...createTokens({ length: 2 }), length: -1 };
    await expect(planTokens(defineReducer(definition), wrong)).rejects.toThrow(InvalidArgumentError);
  });

  it('checks the signals before the method sees them', async () => {
    expect(await planTokens(reading, tokens(Float32Array.of(0, 1)))).toEqual(identityPlan(2));
    await expect(planTokens(reading, tokens(Float32Array.of(0, -1)))).rejects.toThrow(InvalidSignalError);
    await expect(planTokens(reading, tokens(Float32Array.of(1)))).rejects.toThrow(InvalidSignalError);
    await expect(planTokens(reading, createTokens({ length: 2 }))).rejects.toThrow(SignalUnavailableError);
  });

  it('reads the signals of the site that it is told, of the first where it is told none', async () => {
    const reducer = defineReducer({
      name: 'mine',
      at: [beforeLanguageLayer(1), beforeLanguageLayer(3)],
      requires: { attention: promptAttention() },
      plan: async ({ signals, length }) => selectionPlan([signals.attention.indexOf(1)], length),
    });
    const source = createTokens({
      length: 2,
      signals: [
        { ...promptAttention({ layer: 0 }), values: Float32Array.of(1, 0) },
        { ...promptAttention({ layer: 2 }), values: Float32Array.of(0, 1) },
      ],
    });
    expect([...(await planTokens(reducer, source)).sources]).toEqual([0]);
    expect([...(await planTokens(reducer, source, reducer.at[1])).sources]).toEqual([1]);
  });

  it('guards a reducer that was not made by defineReducer too', async () => {
    const plain: TokenReducer = { ...reading };
    await expect(planTokens(plain, tokens(Float32Array.of(NaN, 1)))).rejects.toThrow(InvalidSignalError);
  });

  it('gives back a plan of its own', async () => {
    const made = { inputLength: 2, offsets: [0, 1], sources: [1], combine: 'sum', warnings: ['few'] };
    const plan = await planOf(made);
    expect(plan).toEqual(selectionPlan([1], 2, { warnings: ['few'] }));
    expect(Object.isFrozen(plan)).toBe(true);
  });

  it('refuses a plan for other tokens', async () => {
    await expect(planOf(identityPlan(3))).rejects.toThrow(InvalidPlanError);
    await expect(planOf(identityPlan(3))).rejects.toThrow('mine made a plan for 3 tokens; there are 2.');
  });

  it.each<[string, unknown]>([
    ['null', null],
    ['nothing', undefined],
    ['a number', 2],
    ['a string', 'identity'],
    ['an array', [0, 1]],
    ['an object without arrays', { inputLength: 2 }],
    ['sources taken twice in one output', { ...identityPlan(2), sources: Uint32Array.of(0, 2) }],
    ['warnings that are none', { ...identityPlan(2), warnings: 'few' }],
    ['warnings of another type', { ...identityPlan(2), warnings: [1] }],
    [
      'a getter that throws',
      {
        ...identityPlan(2),
        get sources() {
          throw new TypeError('not today');
        },
      },
    ],
  ])('refuses %s for a plan with a typed error', async (_, made) => {
    await expect(planOf(made)).rejects.toThrow(InvalidPlanError);
  });

  it('passes on what the method throws', async () => {
    const refusing = defineReducer({
      ...definition,
      plan: async () => {
        throw new RangeError('mine');
      },
    });
    await expect(planTokens(refusing, createTokens({ length: 2 }))).rejects.toThrow(RangeError);
  });
});

describe('checkReducer', () => {
  const reducer = {
    specificationVersion: 2,
    name: 'x',
    at: [atFeatures],
    requires: {},
    plan: () => undefined,
  };

  it('accepts what has the interface, whoever made it', () => {
    expect(() => {
      checkReducer('reducer', reducer);
      checkReducer('reducer', { ...reducer, at: [beforeVisionLayer(2), beforeLanguageLayer(-1)] });
    }).not.toThrow();
  });

  it.each([
    [
      'a function that was not called',
      function fopruRank() {
        return reducer;
      },
      'the function fopruRank',
    ],
    ['nothing', null, 'null'],
    ['a name', 'fopru-rank', '"fopru-rank"'],
    ['an empty object', {}, '{}'],
    ['a later version', { ...reducer, specificationVersion: 3 }, '{"specificationVersion":3'],
    ['no sites', { ...reducer, at: undefined }, '{'],
    ['no signals', { ...reducer, requires: undefined }, '{'],
    ['null for signals', { ...reducer, requires: null }, '{'],
    ['a list of signals', { ...reducer, requires: [keys()] }, '{'],
    ['no plan', { ...reducer, plan: 'keep' }, '{'],
  ])('refuses %s', (_, value, received) => {
    const check = (): void => {
      checkReducer('reducers[0]', value);
    };
    expect(check).toThrow(InvalidArgumentError);
    expect(check).toThrow(
      `reducers[0] must be a reducer of specificationVersion 2, as fopruRank() returns one; received ${received}`,
    );
  });

  it('says what to change in a reducer of version 1', () => {
    const old = { specificationVersion: 1, name: 'x', stage: 'vision', requires: [], plan: () => undefined };
    const check = (): void => {
      checkReducer('reducers[0]', old);
    };
    expect(check).toThrow(InvalidArgumentError);
    for (const words of [
      'reducers[0]',
      '`at` in place of `stage` and `layer`',
      '`requires` a record of signals',
      '`tokens.signals`',
      '`rule` in place of `topK`',
      'a reducer of specificationVersion 1 (x)',
    ]) {
      expect(check).toThrow(words);
    }
  });

  it.each([
    [{ rows: keys }, 'reducer.requires must be a record of signals'],
    [{ rows: { signal: 'keys' } }, 'reducer.requires must be a record of signals'],
    [{ rows: undefined }, 'reducer.requires must be a record of signals'],
  ])('refuses the signals %j', (requires, message) => {
    const check = (): void => {
      checkReducer('reducer', { ...reducer, requires });
    };
    expect(check).toThrow(InvalidArgumentError);
    expect(check).toThrow(message);
  });

  it.each([
    [[], 'reducer.at must be a list of at least one site'],
    [[{ tower: 'audio', layer: 2 }], 'reducer.at[0] must be'],
    [[atFeatures, { tower: 'language', layer: 0 }], 'reducer.at[1] must be'],
    [[null], 'reducer.at[0] must be'],
  ])('refuses the sites %j', (at, message) => {
    const check = (): void => {
      checkReducer('reducer', { ...reducer, at });
    };
    expect(check).toThrow(InvalidArgumentError);
    expect(check).toThrow(message);
  });
});
