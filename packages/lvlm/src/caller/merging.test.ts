/** Tokens merged inside every layer of the vision encoder: in its graph, and between its parts. */
import { atFeatures, attentionReceived, defineReducer, identityPlan, type TokenReducer } from '@foveate/core';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { tome } from '@foveate/tome';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE, FIXTURE, picture } from '../../test/bundles.js';
import { Lvlm } from '../index.js';

const PROMPT = 'What is this?';

/** The same choice, which the runner cannot make inside the graph: `plan` makes it in each layer. */
function planned({ rule, ...rest }: TokenReducer): TokenReducer {
  expect(rule).toBeDefined();
  return rest;
}

describe('a language model that answers', () => {
  let lvlm: Lvlm;
  beforeAll(async () => {
    lvlm = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE });
  });
  afterAll(async () => {
    await lvlm.dispose();
  });
  const ask = { images: [picture(1), picture(3)], prompt: PROMPT, maxNewTokens: 6 };

  test.each([
    ['alone', []],
    ['with FoPru and FastV behind it', [fopruRank({ keepRatio: 0.5 }), fastv({ layer: 1, keepRatio: 0.5 })]],
  ])('in the graph or between its parts, %s: the same tokens and reports', async (_, behind) => {
    const one = await lvlm.generate({ ...ask, reducers: [tome({ keepCount: 20 }), ...behind] });
    const two = await lvlm.generate({ ...ask, reducers: [planned(tome({ keepCount: 20 })), ...behind] });
    console.log(
      JSON.stringify(
        one.images[0].crops[0].steps.map((s) => [s.site, s.reducer, s.inputTokens, s.outputTokens]),
      ),
    );
    expect(two.tokenIds).toEqual(one.tokenIds);
    expect(two.images).toEqual(one.images);
    expect(two.memory.kvBytes).toBe(one.memory.kvBytes);
  });
});
