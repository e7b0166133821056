import { describe, expect, it } from 'vitest';
import {
  InvalidArgumentError,
  InvalidPlanError,
  InvalidSignalError,
  SignalUnavailableError,
} from './errors.js';
import { identityPlan, type ReductionPlan } from './plan.js';
import { checkReducer, defineReducer, type LanguageReducer, type VisionReducer } from './reducer.js';
import type { SignalRequest } from './signals.js';
import { createVisualTokens, type VisualTokens } from './visual-tokens.js';

const given: SignalRequest = { signal: 'attentionGiven' };

function vision(plan: VisionReducer['plan'], requires: readonly SignalRequest[] = []): VisionReducer {
  return defineReducer<VisionReducer>({
    specificationVersion: 1,
    name: 'mine',
    stage: 'vision',
    requires,
    plan,
  });
}

const keepAll = async (tokens: VisualTokens): Promise<ReductionPlan> => identityPlan(tokens.length);

describe('defineReducer', () => {
  it('lets a good reducer through', async () => {
    const reducer = vision(keepAll);
    expect(Object.isFrozen(reducer)).toBe(true);
    expect(await reducer.plan(createVisualTokens({ length: 2 }))).toEqual(identityPlan(2));
  });

  it('checks the tokens before the method sees them', async () => {
    const tokens = createVisualTokens({ length: 2 });
    await expect(vision(keepAll).plan({ ...tokens, length: -1 })).rejects.toThrow(InvalidArgumentError);
  });

  it('checks a signal when it is read', async () => {
    const reading = vision(
      async (tokens) => {
        await tokens.signal(given);
        return identityPlan(tokens.length);
      },
      [given],
    );
    const tokens = (values: Float32Array): VisualTokens =>
      createVisualTokens({ length: 2, signals: [{ ...given, values }] });
    expect(await reading.plan(tokens(Float32Array.of(0, 1)))).toEqual(identityPlan(2));
    await expect(reading.plan(tokens(Float32Array.of(0, -1)))).rejects.toThrow(InvalidSignalError);
    await expect(reading.plan(tokens(Float32Array.of(1)))).rejects.toThrow(InvalidSignalError);
  });

  it('gives no signal and no neighbours that requires does not name', async () => {
    const tokens = createVisualTokens({
      length: 2,
      signals: [
        { signal: 'attentionGiven', values: Float32Array.of(0, 1) },
        { signal: 'keys', values: Float32Array.of(0, 1) },
      ],
    });
    const reading = vision(async (view) => {
      await view.signal(given);
      return identityPlan(view.length);
    });
    await expect(reading.plan(tokens)).rejects.toThrow('mine does not list it in its requires');
    const asking = vision(async (view) => {
      await view.nearest(Uint32Array.of(0), 1);
      return identityPlan(view.length);
    });
    await expect(asking.plan(tokens)).rejects.toThrow(SignalUnavailableError);
  });

  it('checks the plan before it goes out', async () => {
    const tokens = createVisualTokens({ length: 2 });
    await expect(vision(async () => identityPlan(3)).plan(tokens)).rejects.toThrow(
      'mine made a plan for 3 tokens',
    );
    const broken = vision(async () => ({ ...identityPlan(2), sources: Uint32Array.of(0, 0) }));
    await expect(broken.plan(tokens)).rejects.toThrow(InvalidPlanError);
  });

  it.each<[string, Partial<LanguageReducer>, string]>([
    ['a name with spaces', { name: 'My Method' }, 'name'],
    ['layer 0', { layer: 0 }, 'layer'],
    ['a fractional layer', { layer: 1.5 }, 'layer'],
    [
      'a score that is not required',
      { topK: { score: { signal: 'promptAttention', layer: 1, rows: 'last' }, budget: { keepCount: 1 } } },
      'topK.score',
    ],
  ])('refuses %s', (_, change, argument) => {
    const define = (): unknown =>
      defineReducer<LanguageReducer>({
        specificationVersion: 1,
        name: 'mine',
        stage: 'language',
        layer: 2,
        requires: [],
        plan: keepAll,
        ...change,
      });
    expect(define).toThrow(InvalidArgumentError);
    expect(define).toThrow(argument);
  });
});

describe('checkReducer', () => {
  const reducer = {
    specificationVersion: 1,
    name: 'x',
    stage: 'vision',
    requires: [],
    plan: () => undefined,
  };

  it('accepts what has the interface, whoever made it', () => {
    expect(() => {
      checkReducer('reducer', reducer);
      checkReducer('reducer', { ...reducer, stage: 'language', layer: 2 });
    }).not.toThrow();
  });

  it.each([
    [
      'a function that was not called',
      function createX() {
        return reducer;
      },
      'the function createX',
    ],
    ['nothing', null, 'null'],
    ['a name', 'fopru-rank', '"fopru-rank"'],
    ['an empty object', {}, '{}'],
    ['another version', { ...reducer, specificationVersion: 2 }, '{"specificationVersion":2'],
    ['another stage', { ...reducer, stage: 'audio' }, '{"specificationVersion":1,"name":"x","stage":"audio"'],
    ['no signals', { ...reducer, requires: undefined }, '{'],
    ['no plan', { ...reducer, plan: 'keep' }, '{'],
  ])('refuses %s', (_, value, received) => {
    const check = (): void => {
      checkReducer('reducers[0]', value);
    };
    expect(check).toThrow(InvalidArgumentError);
    expect(check).toThrow(
      `reducers[0] must be a reducer of specificationVersion 1, as createFopruRank() returns one; received ${received}`,
    );
  });
});
