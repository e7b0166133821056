import { Tensor } from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import {
  CachedSession,
  DECODERS,
  decoderFile,
  expectedDecoder,
  integers,
  LAYERS,
  ones,
  PROMPT,
  STEPS,
  VOCABULARY,
  WIDTH,
} from '../fixtures/decoders/run.js';
import { difference } from '../fixtures/run.js';
import {
  OnnxArgumentError,
  splitDecoder,
  type OnnxModel,
  type DecoderPart,
  type PromptRows,
} from './index.js';
import { readModel } from './files.js';

const expected = expectedDecoder();
const cases = DECODERS.flatMap((name) => expected.cuts.map((cut) => ({ name, cut, layer: cut.layer })));
const ROWS: readonly PromptRows[] = ['last', 'mean'];
/** Tokens of the prompt behind its last visual one. */
const QUESTION = PROMPT - 1 - Math.max(...expected.visual);

/** Of values [PROMPT] those of the visual tokens. */
const ofVisual = (values: readonly number[]): number[] => expected.visual.map((place) => values[place]);

/** Two parts with their caches. */
class SplitSession {
  readonly #part: DecoderPart;
  readonly #lower: CachedSession;
  readonly #upper: CachedSession;

  private constructor(part: DecoderPart, lower: CachedSession, upper: CachedSession) {
    this.#part = part;
    this.#lower = lower;
    this.#upper = upper;
  }

  static async open([lower, upper]: readonly DecoderPart[]): Promise<SplitSession> {
    const parts = await Promise.all([CachedSession.open(lower.model), CachedSession.open(upper.model)]);
    return new SplitSession(lower, ...parts);
  }

  /** Runs tokens, of which those at `kept` (among them) go on into the upper part. */
  async tokens(
    start: number,
    count: number,
    kept: readonly number[] = Array.from({ length: count }, (_, i) => i),
  ): Promise<{ lower: Record<string, Tensor>; logits: Tensor }> {
    const visual = start === 0 ? expected.visual : [];
    const lower = await this.#lower.tokens(start, count, {
      [this.#part.visualTokens!]: integers(visual),
      [this.#part.questionTokens!]: integers([Math.min(count, QUESTION)]),
    });
    const hidden = lower[this.#part.output!].data as Float32Array;
    const rows = kept.flatMap((i) => [...hidden.subarray(i * WIDTH, (i + 1) * WIDTH)]);
    const { logits } = await this.#upper.run({
      [this.#part.output!]: new Tensor('float32', rows, [1, kept.length, WIDTH]),
      attention_mask: ones((this.#upper.cached(this.#part.end) ?? 0) + kept.length),
      position_ids: integers(
        kept.map((i) => start + i),
        [1, kept.length],
      ),
    });
    return { lower, logits };
  }

  async release(): Promise<void> {
    await this.#lower.release();
    await this.#upper.release();
  }
}

describe.each(cases)('$name cut before layer $layer', ({ name, cut, layer }) => {
  const model = readModel(decoderFile(name));
  const signals = ROWS.map((rows) => ({ name: 'promptAttention', layer: layer - 1, rows }));
  const { parts } = splitDecoder(model, [{ layer, signals }]);
  const [part] = parts;

  test('no matrix is in both parts', () => {
    const matrices = ({ graph }: OnnxModel): string[] => {
      const constants = new Set(graph.initializer.map(({ name: constant }) => constant));
      const operands = graph.node.filter(({ opType }) => opType === 'MatMul').flatMap(({ input }) => input);
      return operands.filter((operand) => constants.has(operand));
    };
    const inParts = parts.flatMap((one) => matrices(one.model));
    expect(inParts.toSorted()).toEqual(matrices(model).toSorted());
  });

  test('the hidden state and the attention are what the reference computes', async () => {
    const session = await SplitSession.open(parts);
    const { lower } = await session.tokens(0, PROMPT);
    expect(difference(lower[part.output!], cut.hidden)).toBeLessThan(1e-4);
    for (const [i, rows] of ROWS.entries())
      expect(difference(lower[part.signals[i]], ofVisual(cut[rows].scores))).toBeLessThan(1e-5);
    await session.release();
  });

  test('one part after the other is the whole, token by token too', async () => {
    const session = await SplitSession.open(parts);
    const whole = await CachedSession.open(model);
    for (const [start, count] of [
      [0, PROMPT],
      [PROMPT, 1],
      [PROMPT + 1, 2],
    ] as const) {
      const { logits } = await session.tokens(start, count);
      const original = await whole.tokens(start, count);
      expect(difference(logits, original.logits.data as Float32Array)).toBeLessThan(1e-5);
    }
    await session.release();
    await whole.release();
  });

  test.each(ROWS)('what is taken out between them by rows %s, later layers do not see', async (rows) => {
    const session = await SplitSession.open(parts);
    const choice = cut[rows];
    const kept = Array.from({ length: PROMPT }, (_, i) => i).filter(
      (i) => !expected.visual.includes(i) || choice.kept.includes(i),
    );
    for (let step = 0; step <= STEPS; step++) {
      const { logits } =
        step === 0 ? await session.tokens(0, PROMPT, kept) : await session.tokens(PROMPT + step - 1, 1);
      const last = (logits.data as Float32Array).slice(-VOCABULARY);
      const row = choice.logits.slice(step * VOCABULARY, (step + 1) * VOCABULARY);
      expect(difference(new Tensor(last, [VOCABULARY]), row)).toBeLessThan(1e-4);
    }
    await session.release();
  });
});

test('attention of any lower layer can be had', async () => {
  for (const name of DECODERS) {
    const signals = [0, 1, 2].map((layer) => ({ name: 'promptAttention', layer, rows: 'last' }));
    const { parts } = splitDecoder(readModel(decoderFile(name)), [{ layer: 3, signals }]);
    const session = await SplitSession.open(parts);
    const { lower } = await session.tokens(0, PROMPT);
    for (const [i, { last }] of expected.cuts.entries())
      expect(difference(lower[parts[0].signals[i]], ofVisual(last.scores))).toBeLessThan(1e-5);
    await session.release();
  }
});

test('there have to be layers before and behind the cut, and signals before it', () => {
  const model = readModel(decoderFile('llama-eager'));
  for (const layer of [0, LAYERS, 1.5, NaN]) {
    expect(() => splitDecoder(model, [{ layer }])).toThrow(OnnxArgumentError);
  }
  for (const layer of [-1, 2, 0.5]) {
    const split = (): unknown =>
      splitDecoder(model, [{ layer: 2, signals: [{ name: 'keyMagnitude', layer }] }]);
    expect(split).toThrow(OnnxArgumentError);
    expect(split).toThrow(/signals\[0\]\.layer must be a layer of the part before the cut, 0 to 1;/);
  }
  for (const [signal, message] of [
    [{ name: 'promptAttention', layer: 3 }, /signals\[0\]\.layer .* 0 to 1, or the one behind it, 2/],
    [{ name: 'attention', layer: 0 }, /signals\[0\]\.name must be one of promptAttention, questionAttention/],
    [{ name: 'promptAttention', layer: 0, rows: 'first' }, /signals\[0\]\.rows must be last or mean/],
  ] as const) {
    const split = (): unknown => splitDecoder(model, [{ layer: 2, signals: [signal] }]);
    expect(split).toThrow(OnnxArgumentError);
    expect(split).toThrow(message);
  }
});
