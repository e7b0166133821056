import {
  clipImageEmbeddings,
  clipTextEmbeddings,
  createTokens,
  planTokens,
  projectedFeatures,
  requestsOf,
  SignalUnavailableError,
  signalId,
  textEmbeddings,
  type ReductionPlan,
  type TokenSource,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { readFile } from 'node:fs/promises';
import { describe, expect, it, test } from 'vitest';
import { cdpruner, type CdprunerOptions } from './cdpruner.js';

for (const relevance of ['embeddings', 'clip', 'none'] as const) {
  describe(`conforms: relevance ${relevance}`, () => {
    const cases = reducerConformance({
      create: (given) => cdpruner({ ...given, relevance }),
      ranks: 'tokens',
    });
    for (const { name, run } of cases) {
      // Without relevance all tokens are alike to begin with, and the first is kept wherever tokens move.
      if (relevance !== 'none' || !name.includes('permuted')) test(name, run);
    }
  });
}

type Rows = readonly (readonly number[])[];

const flat = (rows: Rows): Float32Array => Float32Array.from(rows.flat());

/** Tokens with these features, and the question in both spaces. */
function tokensOf({
  rows,
  text,
  seen,
  asked,
}: Record<'rows', Rows> & Partial<Record<'text' | 'seen' | 'asked', Rows>>): TokenSource {
  return createTokens({
    length: rows.length,
    signals: [
      { ...projectedFeatures(), values: flat(rows) },
      ...(text ? [{ ...textEmbeddings(), values: flat(text) }] : []),
      ...(seen ? [{ ...clipImageEmbeddings(), values: flat(seen) }] : []),
      ...(asked ? [{ ...clipTextEmbeddings(), values: flat(asked) }] : []),
    ],
  });
}

function planFor(tokens: Parameters<typeof tokensOf>[0], options: CdprunerOptions): Promise<ReductionPlan> {
  return planTokens(cdpruner(options), tokensOf(tokens));
}

async function kept(...given: Parameters<typeof planFor>): Promise<number[]> {
  return [...(await planFor(...given)).sources];
}

/** [N][N] so that the cosines of different tokens are 0. */
function unrelated(length: number): number[][] {
  return Array.from({ length }, (_, i) => Array.from({ length }, (_value, j) => Number(i === j)));
}

const fewerDirections =
  'the tokens point in fewer directions than were to be kept: the last ones are those farthest from what is kept';

describe('relevance embeddings', () => {
  it('keeps what is like the prompt’s text, on the mean over its tokens', async () => {
    const rows = unrelated(4);
    expect(await kept({ rows, text: [[0, 0, 1, 0]] }, { keepCount: 1 })).toEqual([2]);
    // Cosines 0.8, 0.6 with the first, and 1 of token 1 with the other two.
    const text = [[0, 0, 0.8, 0.6], [0, 5, 0, 0], [0, 1, 0, 0]]; // prettier-ignore
    expect(await kept({ rows, text }, { keepCount: 1 })).toEqual([1]);
    expect(await kept({ rows, text }, { keepCount: 3 })).toEqual([1, 2, 3]);
  });

  it('is the default, and says that it is not the official one', async () => {
    const { sources, warnings } = await planFor({ rows: unrelated(4), text: [[0, 0, 1, 0]] }, {});
    expect([...sources]).toEqual([2]);
    expect(warnings).toEqual([
      'relevance is by the language model’s embeddings of the prompt, not by CLIP as in the official code',
    ]);
  });
});

describe('relevance clip', () => {
  const options: CdprunerOptions = { keepCount: 1, relevance: 'clip' };

  it('keeps what is LEAST like the question in CLIP’s space', async () => {
    const seen = [[1, 0], [0, 1], [-1, 0], [1, 0]]; // prettier-ignore
    const { sources, warnings } = await planFor({ rows: unrelated(4), seen, asked: [[2, 0]] }, options);
    expect([...sources]).toEqual([2]);
    expect(warnings).toEqual(['relevance is by CLIP’s embeddings of the question']);
  });

  it('on the mean over the question’s segments, not the first alone', async () => {
    const seen = [[1, 0], [0, 1], [-0.6, 0.8], [0, -1]]; // prettier-ignore
    // With the first 1, 0, -0.6, 0; with the second 0, 1, 0.8, -1.
    expect(await kept({ rows: unrelated(4), seen, asked: [[1, 0]] }, options)).toEqual([2]);
    expect(await kept({ rows: unrelated(4), seen, asked: [[1, 0], [0, 1]] }, options)).toEqual([3]); // prettier-ignore
  });

  it('weighs both sides of the kernel, whose cosines are those of the language model’s space', async () => {
    const opposite = { seen: [[-1, 0], [-1, 0], [0, 1], [1, 0]], asked: [[1, 0]] }; // prettier-ignore
    // Relevance 1, 1, 0.5, 0. Behind token 0, of token 1 is left 1 - 0.6: 0.4 beside 0.25; one-sided 0.4
    // beside 0.5.
    const rows = [[1, 0, 0], [Math.sqrt(0.6), Math.sqrt(0.4), 0], [0, 0, 1], [0, 0, -1]]; // prettier-ignore
    expect(await kept({ rows, ...opposite }, { ...options, keepCount: 2 })).toEqual([0, 1]);
    // Of token 1 less is left, though CLIP sees it as it was: 0.2 beside 0.25.
    const nearer = rows.with(1, [Math.sqrt(0.8), Math.sqrt(0.2), 0]);
    expect(await kept({ rows: nearer, ...opposite }, { ...options, keepCount: 2 })).toEqual([0, 2]);
  });

  it('leaves the least relevant a trace, so that the kernel can still choose it', async () => {
    const seen = [[1, 0], [1, 0], [-1, 0], [0, 1]]; // prettier-ignore
    const { sources, warnings } = await planFor(
      { rows: unrelated(4), seen, asked: [[1, 0]] },
      { ...options, keepCount: 3 },
    );
    expect([...sources]).toEqual([0, 2, 3]);
    expect(warnings).not.toContain(fewerDirections);
  });

  it('is not there unless it was given', async () => {
    expect(requestsOf(cdpruner(options).requires, cdpruner(options).at[0]).map(signalId)).toEqual([
      'projectedFeatures',
      'clipImageEmbeddings',
      'clipTextEmbeddings',
    ]);
    const plan = planFor({ rows: unrelated(4), text: [[1, 0, 0, 0]] }, options);
    await expect(plan).rejects.toThrow(SignalUnavailableError);
  });
});

describe('relevance none', () => {
  it('keeps what is diverse, and says so', async () => {
    const rows = [[1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 1, 1]]; // prettier-ignore
    const { sources, warnings } = await planFor({ rows }, { keepCount: 2, relevance: 'none' });
    expect([...sources]).toEqual([0, 2]);
    expect(warnings).toEqual(['relevance is left out, and diversity alone decides']);
  });

  it('is what holds where all tokens are equally relevant', async () => {
    const rows = [[1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 1, 1]]; // prettier-ignore
    const { sources, warnings } = await planFor({ rows, text: [[0, 0, 0]] }, { keepCount: 2 });
    expect([...sources]).toEqual([0, 2]);
    expect(warnings).toEqual([
      'all tokens are equally relevant by the language model’s embeddings of the prompt, not by CLIP as in the official code: relevance is left out, and diversity alone decides',
    ]);
    const seen = rows.map(() => [0.1, 0.7]);
    const equal = await planFor({ rows, seen, asked: [[1, 2]] }, { keepCount: 2, relevance: 'clip' });
    expect([...equal.sources]).toEqual([0, 2]);
    expect(equal.warnings[0]).toMatch(/^all tokens are equally relevant by CLIP/);
  });
});

describe('cdpruner', () => {
  it('is the identity of all tokens without asking what is relevant', async () => {
    const { warnings } = await planFor({ rows: unrelated(4), text: [[1, 0, 0, 0]] }, { keepRatio: 1 });
    expect(warnings).toEqual([]);
  });

  it('fills up with the farthest, and says so, where there are fewer directions than tokens to keep', async () => {
    const rows = [[1, 0], [2, 0], [0, 1], [0.6, 0.8], [3, 0]]; // prettier-ignore
    const options: CdprunerOptions = { relevance: 'none', keepCount: 3 };
    expect(await kept({ rows }, options)).toEqual([0, 2, 3]); // 0 and 2 span all
    const { sources, warnings } = await planFor({ rows }, { ...options, keepCount: 4 });
    expect([...sources]).toEqual([0, 1, 2, 3]);
    expect(warnings).toContain(fewerDirections);
  });

  it('of these rather the relevant ones', async () => {
    // Relevance 1, 0.9, 0.3, 0.6, 0. Tokens 0 and 1 span all; from these token 2 is 1 - 0.71 away, token 3
    // 1 - 0.8.
    const rows = [[1, 0], [0, 1], [1, 1], [0.8, 0.6], [3, 0]]; // prettier-ignore
    const seen = [-1, -0.8, 0.4, -0.2, 1].map((cosine) => [cosine, Math.sqrt(1 - cosine ** 2)]);
    const options: CdprunerOptions = { keepCount: 3, relevance: 'clip' };
    expect(await kept({ rows, seen, asked: [[1, 0]] }, options)).toEqual([0, 1, 3]);
    expect(await kept({ rows }, { ...options, relevance: 'none' })).toEqual([0, 1, 2]);
  });

  it('knows three kinds of relevance', () => {
    expect(() => cdpruner({ relevance: 'text' as 'none' })).toThrow(
      /relevance .*'embeddings' or 'clip' or 'none'/,
    );
  });
});

interface OfficialCase {
  readonly name: string;
  readonly tokens: number;
  readonly keepCount: number;
  readonly features: string;
  readonly imageEmbeddings: string;
  readonly textEmbeddings: string;
  readonly kept: readonly number[];
  readonly order: readonly number[];
}

function floats(base64: string): Float32Array {
  const { buffer, byteOffset, length } = Buffer.from(base64, 'base64');
  return new Float32Array(buffer.slice(byteOffset, byteOffset + length));
}

describe('cases of the official code', async () => {
  const text = await readFile(new URL('../fixtures/official-cases.json', import.meta.url), 'utf8');
  const { cases } = JSON.parse(text) as { cases: OfficialCase[] };
  const planOf = (given: OfficialCase): Promise<ReductionPlan> =>
    planTokens(
      cdpruner({ keepCount: given.keepCount, relevance: 'clip' }),
      createTokens({
        length: given.tokens,
        signals: [
          { ...projectedFeatures(), values: floats(given.features) },
          { ...clipImageEmbeddings(), values: floats(given.imageEmbeddings) },
          { ...clipTextEmbeddings(), values: floats(given.textEmbeddings) },
        ],
      }),
    );

  it.each(cases.filter(({ name }) => !name.includes('exhausted')))('$name', async (given) => {
    expect([...(await planOf(given)).sources]).toEqual(given.kept);
  });

  it.each(cases.filter(({ name }) => name.includes('exhausted')))(
    '$name: as far as it is defined, and then tokens in place of repeats',
    async (given) => {
      const { sources, warnings } = await planOf(given);
      expect([...sources]).toEqual(expect.arrayContaining([...given.order]));
      expect(sources).toHaveLength(given.keepCount);
      expect(warnings).toContain(fewerDirections);
    },
  );
});
