/** How calls follow each other, stream, stop and end. */
import { atFeatures, defineReducer, selectionPlan, identityPlan, type TokenReducer } from '@foveate/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE, FIXTURE, picture } from '../../test/bundles.js';
import { DisposedError, Lvlm, type GenerateOptions } from '../index.js';

let lvlm: Lvlm;
beforeAll(async () => {
  lvlm = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE });
});
afterAll(() => lvlm.dispose());

const ask: GenerateOptions = { images: [picture(1)], prompt: 'What is this?', maxNewTokens: 8 };
const long: GenerateOptions = { ...ask, maxNewTokens: 500 };

/** A reducer that never makes up its mind. */
const stuck: TokenReducer = defineReducer({
  name: 'stuck',
  at: [atFeatures],
  requires: {},
  plan: () => new Promise(() => undefined),
});

test('concurrent calls wait for each other and keep their own images, prompts and reducers', async () => {
  const keep: TokenReducer = {
    ...stuck,
    name: 'keep',
    plan: async ({ length }) => selectionPlan([1, 5, 9], length),
  };
  const calls: GenerateOptions[] = [0, 1, 2, 3].flatMap((seed) => [
    { ...ask, images: [picture(seed)] },
    { ...ask, images: [picture(seed)], reducers: [keep] },
    { ...ask, images: [], rawPrompt: `Hello ${seed}`, prompt: undefined as never },
  ]);
  for (const call of calls) if (call.prompt === undefined) delete (call as { prompt?: string }).prompt;
  const alone: number[][] = [];
  for (const call of calls) alone.push([...(await lvlm.generate(call)).tokenIds]);
  const together = await Promise.all(calls.map((call) => lvlm.generate(call)));
  expect(together.map(({ tokenIds }) => tokenIds)).toEqual(alone);
  const queue = together.map(({ timings }) => timings.queueMs);
  expect(queue).toEqual([...queue].sort((a, b) => a - b));
});

test('the event loop stays free while the model runs', async () => {
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  await lvlm.generate(long);
  clearInterval(timer);
  expect(turns).toBeGreaterThan(10);
});

describe('tokens as they come', () => {
  test('are those of the answer, in order, with their text', async () => {
    const ids: number[] = [];
    let text = '';
    const result = await lvlm.generate({
      ...ask,
      maxNewTokens: 60,
      onToken: (token) => void (ids.push(token.tokenId), (text += token.text)),
    });
    expect(ids).toEqual(result.tokenIds);
    expect(result.text.startsWith(text.trim())).toBe(true); // bytes of an unfinished character may be held back at the end
  });

  test('a callback that throws ends the call', async () => {
    let calls = 0;
    const onToken = (): void => {
      calls++;
      throw new RangeError('enough');
    };
    await expect(lvlm.generate({ ...long, onToken })).rejects.toThrow(new RangeError('enough'));
    expect(calls).toBe(1);
    expect((await lvlm.generate(ask)).tokenIds).toHaveLength(8);
  });
});

describe('an abort signal', () => {
  test('ends a call between two tokens', async () => {
    const controller = new AbortController();
    let tokens = 0;
    const onToken = (): void => {
      if (++tokens === 3) controller.abort(new RangeError('stop'));
    };
    await expect(lvlm.generate({ ...long, onToken, abortSignal: controller.signal })).rejects.toThrow(
      new RangeError('stop'),
    );
    const after = await lvlm.generate(ask);
    expect(after.tokenIds).toHaveLength(8);
    expect(tokens).toBeLessThan(20);
  });

  test('ends a call that waits for a reducer, and one that waits for its turn', async () => {
    const controller = new AbortController();
    const running = lvlm.generate({ ...ask, reducers: [stuck], abortSignal: controller.signal });
    const waiting = lvlm.generate({ ...ask, abortSignal: controller.signal });
    const untouched = lvlm.generate(ask);
    setTimeout(() => {
      controller.abort();
    }, 200);
    await expect(running).rejects.toMatchObject({ name: 'AbortError' });
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
    expect((await untouched).tokenIds).toHaveLength(8);
  });

  test('may come at any time', async () => {
    const keep: TokenReducer = {
      ...stuck,
      plan: ({ length }) => Promise.resolve(selectionPlan([3], length)),
    };
    for (const delay of [0, 1, 2, 3, 4, 6, 8, 12, 16]) {
      const abortSignal = AbortSignal.timeout(delay);
      const outcome = lvlm.generate({ ...long, reducers: [keep], abortSignal });
      await expect(outcome).rejects.toMatchObject({ name: 'TimeoutError' });
    }
    expect((await lvlm.generate(ask)).tokenIds).toHaveLength(8);
  });

  test('of thirty calls is listened to once, and ends all of them', async () => {
    const warnings: Error[] = [];
    const listen = (warning: Error): void => {
      warnings.push(warning);
    };
    process.on('warning', listen);
    const controller = new AbortController();
    const calls = Array.from({ length: 30 }, () =>
      lvlm.generate({ ...ask, reducers: [stuck], abortSignal: controller.signal }),
    );
    setTimeout(() => {
      controller.abort();
    }, 50);
    const ended = await Promise.allSettled(calls);
    await new Promise(setImmediate); // warnings come in a turn of their own
    process.off('warning', listen);
    expect(ended.map(({ status }) => status)).toEqual(calls.map(() => 'rejected'));
    expect(warnings).toEqual([]);
    expect((await lvlm.generate(ask)).tokenIds).not.toHaveLength(0);
  });

  test('that is aborted already runs nothing', async () => {
    await expect(lvlm.generate({ ...ask, abortSignal: AbortSignal.abort() })).rejects.toMatchObject({
      name: 'AbortError',
    });
  });

  test('a reducer that comes too late changes nothing', async () => {
    const controller = new AbortController();
    let decide = (): void => undefined;
    const late: TokenReducer = {
      ...stuck,
      plan: ({ length }) =>
        new Promise(
          (resolve) =>
            (decide = () => {
              resolve(selectionPlan([0], length));
            }),
        ),
    };
    const running = lvlm.generate({ ...ask, reducers: [late], abortSignal: controller.signal });
    setTimeout(() => {
      controller.abort();
    }, 200);
    await expect(running).rejects.toMatchObject({ name: 'AbortError' });
    const next = lvlm.generate({
      ...ask,
      reducers: [
        {
          ...stuck,
          plan: async ({ length }) => {
            decide();
            await new Promise((resolve) => setTimeout(resolve, 50));
            return identityPlan(length);
          },
        },
      ],
    });
    expect((await next).images[0].outputTokens).toBe(64);
  });
});

describe('sampling', () => {
  const sample = async (temperature: number, seed: number): Promise<string> =>
    (await lvlm.generate({ ...ask, temperature, seed, maxNewTokens: 12 })).tokenIds.join();

  test('is repeated by its seed and varies with it', async () => {
    expect(await sample(2, 7)).toBe(await sample(2, 7));
    expect(new Set(await Promise.all([1, 2, 3, 4].map((seed) => sample(2, seed)))).size).toBeGreaterThan(1);
  });

  test('near temperature 0 is greedy', async () => {
    expect(await sample(1e-6, 3)).toBe(await sample(0, 0));
  });
});

test('the end token ends the answer and is not part of it', async () => {
  // Among sampled answers some end by themselves; each of their tokens went through the decoder.
  for (let seed = 0; seed < 200; seed++) {
    const { finishReason, tokenIds, memory } = await lvlm.generate({
      ...ask,
      temperature: 5,
      seed,
      maxNewTokens: 20,
    });
    if (finishReason === 'length') continue;
    expect(tokenIds.length).toBeLessThan(20);
    expect(tokenIds).not.toContain(2);
    expect(memory.cached.generated).toBe(tokenIds.length);
    return;
  }
  throw new Error('no answer ended by itself');
});

test('a full context ends the answer', async () => {
  const { contextLength } = lvlm.info;
  const { tokenIds, finishReason, memory, warnings } = await lvlm.generate({
    rawPrompt: 'x'.repeat(contextLength! - 10),
    maxNewTokens: 50,
  });
  const { text } = memory.cached;
  expect(finishReason).toBe('length');
  expect(text + tokenIds.length).toBe(contextLength);
  expect(warnings).toEqual([expect.stringContaining('leaves room for')]);
});

test('a reducer that asks its own model is told, instead of waiting for ever', async () => {
  const selfish: TokenReducer = {
    ...stuck,
    plan: async ({ length }) => {
      await lvlm.generate(ask);
      return identityPlan(length);
    },
  };
  await expect(lvlm.generate({ ...ask, reducers: [selfish] })).rejects.toThrow(
    /load the model a second time/,
  );
  expect((await lvlm.generate(ask)).tokenIds).toHaveLength(8);
});

describe('dispose', () => {
  test('rejects running, waiting and later calls', async () => {
    const model = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE });
    const running = model.generate(long);
    const waiting = model.generate(ask);
    setTimeout(() => void model.dispose(), 100);
    await expect(running).rejects.toThrow(DisposedError);
    await expect(waiting).rejects.toThrow(DisposedError);
    await expect(model.generate(ask)).rejects.toThrow(DisposedError);
    await model.dispose();
  });

  test('may come at any time', async () => {
    const keep: TokenReducer = {
      ...stuck,
      plan: ({ length }) => Promise.resolve(selectionPlan([3], length)),
    };
    for (const delay of [0, 2, 5, 9]) {
      const model = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE, reducers: [keep] });
      const running = model.generate({ ...long, reducers: [keep] });
      setTimeout(() => void model.dispose(), delay);
      await expect(running).rejects.toThrow(DisposedError);
      await model.dispose();
    }
  });

  test('await using', async () => {
    let kept: Lvlm;
    {
      await using model = await Lvlm.load(FIXTURE);
      kept = model;
      expect((await model.generate(ask)).tokenIds).toHaveLength(8);
    }
    await expect(kept.generate(ask)).rejects.toThrow(DisposedError);
  });
});
