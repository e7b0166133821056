import { describe, expect, it } from 'vitest';
import { casesOf, methodNames, UnknownMethodError, type Implementation, type MethodName } from './cases.js';
import { checkCases } from './check.js';

/** What the files say, by the names of the cases, in the reverse order. */
async function rightAnswers<M extends MethodName>(method: M): Promise<Implementation<M>> {
  const { cases } = await casesOf(method);
  const kept = new Map(cases.map((one) => [one.name, one.kept ?? []]));
  return ({ name }) => kept.get(name)!.map((stage) => [...stage].reverse());
}

/**
 * HiPrune by its definition.
 * @param bordered whether the neighbours of a token end at the border of the grid, which those of the
 * official code do not
 */
function hiprune(bordered: boolean): Implementation<'hiprune'> {
  return ({ inputs: { object_column_mean: object, deep_column_mean: deep }, params }) => {
    const { N, retention, alpha, grid_width: width } = params;
    const top = (values: Float32Array, count: number, without: ReadonlySet<number>): number[] =>
      Array.from({ length: N }, (_, token) => token)
        .filter((token) => !without.has(token))
        .sort((a, b) => values[b + 1] - values[a + 1]) // behind the class token
        .slice(0, count);
    const around = (token: number): number[] => {
      const near = [token - 1, token + 1, token - width, token + width];
      if (!bordered) return near.map((one) => Math.max(0, Math.min(N - 1, one)));
      const sameRow = (one: number): boolean => Math.floor(one / width) === Math.floor(token / width);
      return near.filter((one, index) => one >= 0 && one < N && (index > 1 || sameRow(one)));
    };
    const anchors = top(object.values, Math.round((retention * alpha) / 5), new Set());
    const first = new Set(anchors.flatMap((token) => [token, ...around(token)]));
    return [...first, ...top(deep.values, retention - first.size, first)];
  };
}

describe.each(methodNames)('%s', (method) => {
  it('has five cases, its source, and a licence that lets it be here', async () => {
    const { cases, source } = await casesOf(method);
    expect(new Set(cases.map(({ name }) => name)).size).toBe(5);
    expect(['Apache-2.0', 'MIT']).toContain(source.licence);
    expect(source.commit).toMatch(/^[0-9a-f]{40}\b/);
    for (const { kept, whyNotCompared } of cases) expect(kept === null).toBe(whyNotCompared !== '');
  });

  it('has arrays of the shapes that it says, of finite numbers', async () => {
    let arrays = 0;
    const look = (value: unknown): void => {
      const { shape, values } = Object(value) as { shape?: number[]; values?: unknown };
      if (values instanceof Float32Array && shape) {
        arrays++;
        expect(values).toHaveLength(shape.reduce((product, length) => product * length, 1));
        expect(values.every(Number.isFinite)).toBe(true);
      } else if (typeof value === 'object' && value !== null) Object.values(value).forEach(look);
    };
    look((await casesOf(method)).cases);
    expect(arrays).toBeGreaterThanOrEqual(10);
    expect(JSON.stringify((await casesOf(method)).cases)).not.toContain('b64');
  });

  it('accepts the right tokens in any order', async () => {
    expect(await checkCases(method, await rightAnswers(method))).toEqual([]);
  });

  it('names each case of which a token is missing', async () => {
    const right = await rightAnswers(method);
    const differences = await checkCases(method, async (one) => {
      const stages = (await right(one)) as number[][];
      return stages.map((stage, index) => (index === stages.length - 1 ? stage.slice(1) : stage));
    });
    const { cases } = await casesOf(method);
    const compared = cases.filter(({ kept }) => kept !== null).map(({ name }) => name);
    expect(differences.map(({ name }) => name)).toEqual(compared);
    for (const { problem } of differences) expect(problem).toContain('1 missing (');
  });
});

describe('checkCases', () => {
  it('passes an implementation of the definition', async () => {
    expect(await checkCases('hiprune', hiprune(false))).toEqual([]);
  });

  it('names the cases that tell a mistake, and by which tokens', async () => {
    const differences = await checkCases('hiprune', hiprune(true));
    expect(differences.map(({ name }) => name)).toEqual([
      'n576_full_attention_192',
      'n576_border_clamp_wrap_64',
    ]);
    expect(differences[0].problem).toMatch(/missing \(\d+.*not kept there \(\d+/);
  });

  it('takes typed arrays, and says what is repeated', async () => {
    const { cases } = await casesOf('vispruner');
    const kept = new Map(cases.map((one) => [one.name, one.kept?.[0] ?? []]));
    expect(await checkCases('vispruner', ({ name }) => Uint32Array.from(kept.get(name)!))).toEqual([]);
    const [first] = await checkCases('vispruner', ({ name }) => [...kept.get(name)!, kept.get(name)![0]]);
    expect(first).toEqual({ name: 'n576_random_192', problem: `1 repeated (${kept.get(first.name)![0]})` });
  });

  it('says what an implementation throws, and how many stages it has', async () => {
    const thrown = await checkCases('dart', () => {
      throw new TypeError('not today');
    });
    expect(thrown).toHaveLength(5);
    expect(thrown[0].problem).toBe('throws: not today');
    const [staged] = await checkCases('pyramiddrop', () => [1, 2]);
    expect(staged.problem).toBe('1 lists of positions; expected 3, one a stage');
  });

  it('knows its methods', async () => {
    const unknown = 'divprune' as MethodName;
    await expect(checkCases(unknown, () => [])).rejects.toThrow(UnknownMethodError);
    await expect(casesOf(unknown)).rejects.toThrow(
      'There are no cases of "divprune"; there are of visionzip,',
    );
  });
});
