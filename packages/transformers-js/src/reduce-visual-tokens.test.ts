/** What holds of a model with reducers in it beside its answers, and what is refused. */
import {
  atFeatures,
  attentionReceived,
  beforeVisionLayer,
  defineReducer,
  identityPlan,
  InvalidArgumentError,
  projectedFeatures,
  selectionPlan,
  SignalUnavailableError,
  textEmbeddings,
  topIndicesAscending,
  UnsupportedReducerError,
  type Requirements,
  type TokenReducer,
  type VisualTokens,
} from '@foveate/core';
import { random, uniform } from '@foveate/baselines';
import { fastervlm } from '@foveate/fastervlm';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { DynamicCache, type DataType, Tensor, type PreTrainedModel } from '@huggingface/transformers';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import {
  answer,
  CLIP,
  encoderOf,
  inputsOf,
  load,
  questions,
  SIGLIP,
  TINY,
  type Inputs,
  type Loaded,
} from '../test/models.js';
import {
  reduceVisualTokens,
  UnsupportedCallError,
  UnsupportedModelError,
  VisionEncoderError,
  type ReduceOptions,
  type VisualTokenReduction,
} from './index.js';

const options: ReduceOptions = { visionEncoder: encoderOf(CLIP) };
const [ask, other] = questions(2);

let loaded: Loaded;
let model: PreTrainedModel;
let inputs: Inputs;
beforeAll(async () => {
  loaded = await load(CLIP);
  ({ model } = loaded);
  inputs = await inputsOf(loaded, ask);
});
afterAll(async () => {
  await model.dispose();
});

/** Puts reducers into the model until the test is over. */
async function reducing(reducers: TokenReducer, given = options): Promise<VisualTokenReduction> {
  const reduction = await reduceVisualTokens(model, reducers, given);
  onTestFinished(() => reduction.restore());
  return reduction;
}

/** Keeps all, and hands what it saw to `see`. */
function watching(see: (tokens: VisualTokens) => void, requires: Requirements = {}): TokenReducer {
  return defineReducer({
    name: 'watching',
    at: [atFeatures],
    requires,
    plan: async (tokens) => {
      see(tokens);
      return identityPlan(tokens.length);
    },
  });
}

describe('what a reducer sees', () => {
  test('the grid, the features behind the projector and the text of the prompt', async () => {
    const seen: VisualTokens[] = [];
    const requires = { projected: projectedFeatures(), text: textEmbeddings() };
    await using reduction = await reduceVisualTokens(
      model,
      watching((one) => seen.push(one), requires),
      options,
    );
    await answer(loaded, inputs, 1);
    const [{ grid, length, signals }] = seen;
    expect({ grid, length }).toEqual({ grid: { rows: 8, columns: 8 }, length: 64 });
    expect(reduction.last).toMatchObject({ inputTokens: 64, outputTokens: 64 });
    const projected = (await model.encode_image(inputs)) as Tensor;
    const [ours, text] = [signals.projected, signals.text] as Float32Array[];
    const theirs = projected.data as Float32Array;
    expect(Math.max(...ours.map((value, i) => Math.abs(value - theirs[i])))).toBeLessThan(1e-5);
    const words = Array.from(inputs.input_ids.data as BigInt64Array).filter(
      (id) => Number(id) !== (model.config as unknown as { image_token_index: number }).image_token_index,
    );
    const ids = new Tensor('int64', BigInt64Array.from(words), [1, words.length]);
    expect(text).toEqual(((await model.encode_text({ input_ids: ids })) as Tensor).data);
  });

  test('a name of the picture: the same for the same, another for another, or the one it is given', async () => {
    const names: string[] = [];
    const seeing = watching(({ imageHash }) => names.push(imageHash));
    const reduction = await reduceVisualTokens(model, seeing, options);
    for (const one of [ask, ask, other]) await answer(loaded, await inputsOf(loaded, one), 1);
    await reduction.restore();
    expect(names[0]).toMatch(/^[0-9a-f]{64}$/);
    expect(names[1]).toBe(names[0]);
    expect(names[2]).not.toBe(names[0]);
    const imageHash = async (pixels: Tensor) => pixels.dims.join();
    await reducing(seeing, { ...options, imageHash });
    await answer(loaded, inputs, 1);
    expect(names.at(-1)).toBe('1,3,64,64');
  });

  test('layers of the encoder from the end, as far as the graph has them', async () => {
    const at = (layer: number): TokenReducer =>
      defineReducer({
        name: 'at-layer',
        at: [atFeatures],
        requires: { received: attentionReceived({ layer }) },
        plan: async ({ length, signals }) => selectionPlan(topIndicesAscending(signals.received, 9), length),
      });
    const plans: unknown[] = [];
    for (const layer of [1, -2]) {
      await using reduction = await reduceVisualTokens(model, at(layer), options);
      await answer(loaded, inputs, 1);
      plans.push(reduction.last?.plans);
    }
    expect(plans[1]).toEqual(plans[0]);
    await expect(reduceVisualTokens(model, at(-1), options)).rejects.toThrow(SignalUnavailableError);
  });
});

describe('calls', () => {
  test('the encoder as bytes gives the same', async () => {
    const reducer = fopruRank();
    const answers: unknown[] = [];
    for (const visionEncoder of [encoderOf(CLIP), new Uint8Array(readFileSync(encoderOf(CLIP)))]) {
      await using reduction = await reduceVisualTokens(model, reducer, { visionEncoder });
      answers.push([await answer(loaded, inputs, 12), reduction.last?.plans]);
    }
    expect(answers[1]).toEqual(answers[0]);
  });

  test('the decoder reads as many rows as are left, in each step', async () => {
    const lengths: number[] = [];
    const session = model.sessions.decoder_model_merged as {
      run(feeds: Record<string, Tensor>): Promise<unknown>;
    };
    const run = session.run.bind(session);
    session.run = (feeds) => {
      lengths.push(feeds.inputs_embeds.dims[1], feeds.attention_mask.dims[1]);
      return run(feeds);
    };
    try {
      await reducing(uniform({ keepCount: 5 }));
      await answer(loaded, inputs, 3);
    } finally {
      Reflect.deleteProperty(session, 'run');
    }
    const left = inputs.input_ids.dims[1] - 64 + 5;
    expect(lengths).toEqual([left, left, 1, left + 1, 1, left + 2]);
  });

  test('a prompt without a picture is read as ever', async () => {
    const { tokenizer } = loaded.processor;
    const text = tokenizer?.('What is this?') as object;
    const expected = await answer(loaded, text, 12);
    await using reduction = await reduceVisualTokens(model, uniform(), options);
    expect(await answer(loaded, text, 12)).toEqual(expected);
    expect(reduction.last).toBeNull();
  });

  test('forward gives the logits that generate takes', async () => {
    await reducing(uniform());
    const { logits } = (await model.forward(inputs)) as { logits: Tensor };
    const last = (logits.slice(null, -1, null).data as Float32Array).slice();
    const [first] = await answer(loaded, inputs, 1);
    expect(last.indexOf(Math.max(...last))).toBe(first);
  });

  test('a conversation goes on behind its cache as it does from the start', async () => {
    await using reduction = await reduceVisualTokens(model, uniform({ keepCount: 7 }), options);
    const past_key_values = new DynamicCache();
    const asked = { max_new_tokens: 4, do_sample: false };
    const first = (await model.generate({ ...inputs, ...asked, past_key_values })) as Tensor;
    const more = BigInt64Array.from([5n, 9n, 11n, 7n, 6n]);
    const ids = BigInt64Array.from([...(first.data as BigInt64Array), ...more]);
    const input_ids = new Tensor('int64', ids, [1, ids.length]);
    const attention_mask = new Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]);
    const turn = { input_ids, attention_mask };
    const expected = await answer(loaded, { ...turn, pixel_values: inputs.pixel_values }, 12);
    expect(reduction.last?.outputTokens).toBe(7);
    expect(await answer(loaded, { ...turn, past_key_values }, 12)).toEqual(expected);
  });

  test('what a reducer throws ends the call, and the next one runs', async () => {
    let isBad = true;
    const moody = watching(() => {
      if (isBad) throw new RangeError('not today');
    });
    await reducing(moody);
    await expect(answer(loaded, inputs, 2)).rejects.toThrow(RangeError);
    isBad = false;
    expect(await answer(loaded, inputs, 2)).toHaveLength(2);
  });
});

describe('restore', () => {
  test('waits for the calls that run, does nothing a second time, and makes room for others', async () => {
    const reduction = await reduceVisualTokens(model, random({ keepCount: 3 }), options);
    const expected = await answer(loaded, inputs, 6);
    const running = answer(loaded, inputs, 6);
    await reduction.restore();
    await reduction.restore();
    expect(await running).toEqual(expected);
    expect(Object.hasOwn(model, 'forward')).toBe(false);
    await using next = await reduceVisualTokens(model, uniform({ keepCount: 4 }), options);
    await answer(loaded, inputs, 1);
    expect(next.last?.outputTokens).toBe(4);
  });

  test('leaves what others put around forward, and goes out of their way', async () => {
    const whole = await answer(loaded, inputs, 12);
    const reduction = await reduceVisualTokens(model, uniform({ keepCount: 1 }), options);
    const inner = model.forward.bind(model);
    let calls = 0;
    model.forward = (given) => {
      calls++;
      return inner(given) as Promise<unknown>;
    };
    expect(await answer(loaded, inputs, 12)).not.toEqual(whole);
    await reduction.restore();
    expect(await answer(loaded, inputs, 12)).toEqual(whole);
    expect(calls).toBeGreaterThan(12);
    Reflect.deleteProperty(model, 'forward');
  });
});

describe('refused at once', () => {
  test.each([undefined, null, 7, 'model', {}, { forward: () => undefined }])('no model: %j', async (none) => {
    const refused = reduceVisualTokens(none as never, uniform(), options);
    await expect(refused).rejects.toThrow(InvalidArgumentError);
  });

  test('a model of another family, or without an encoder', async () => {
    const { sessions } = model;
    const nothing = (): undefined => undefined;
    const standIn = { forward: nothing, encode_text: nothing, config: { model_type: 'llava' }, sessions };
    const qwen = { ...standIn, config: { model_type: 'qwen2_vl', image_token_index: 3 } };
    const text = { ...standIn, sessions: { model: {} } };
    for (const one of [qwen, text]) {
      await expect(reduceVisualTokens(one as never, uniform(), options)).rejects.toThrow(
        UnsupportedModelError,
      );
    }
    await expect(reduceVisualTokens(standIn as never, uniform(), options)).rejects.toThrow(
      'image_token_index',
    );
  });

  const inside = defineReducer({ ...watching(() => undefined), name: 'inside', at: [beforeVisionLayer(2)] });
  test.each([
    ['inside the language model', fastv({ layer: 2, keepRatio: 0.5 })],
    ['inside the encoder', inside],
    ['behind others', [uniform(), inside]],
  ])('a method %s', async (_, reducers) => {
    const refused = reduceVisualTokens(model, reducers, options);
    await expect(refused).rejects.toThrow(UnsupportedReducerError);
    await expect(refused).rejects.toThrow('@foveate/lvlm');
  });

  test.each([[{}], [[uniform(), 'uniform']], [undefined]])('what is no reducer: %j', async (reducers) => {
    await expect(reduceVisualTokens(model, reducers as never, options)).rejects.toThrow(InvalidArgumentError);
  });

  test('a signal that the encoder does not have', async () => {
    const siglip = await load(SIGLIP);
    const given = { visionEncoder: encoderOf(SIGLIP) };
    await expect(reduceVisualTokens(siglip.model, fastervlm(), given)).rejects.toThrow(
      SignalUnavailableError,
    );
    await siglip.model.dispose();
  });

  test.each([[undefined], [{}], [{ visionEncoder: 7 }], [{ ...options, imageHash: 'name' }]])(
    'options %j',
    async (given) => {
      await expect(reduceVisualTokens(model, uniform(), given as never)).rejects.toThrow(
        InvalidArgumentError,
      );
    },
  );

  test.each([
    ['a file that is not there', 'no/vision_encoder.onnx'],
    ['a file that is no model', `${CLIP}/config.json`],
    ['the decoder', `${CLIP}/onnx/decoder_model_merged.onnx`],
    ["another model's encoder", encoderOf(TINY)],
    ['bytes that are no model', new Uint8Array(9)],
  ])('%s', async (_, visionEncoder) => {
    await expect(reduceVisualTokens(model, uniform(), { visionEncoder })).rejects.toThrow(VisionEncoderError);
    expect(Object.hasOwn(model, 'forward')).toBe(false);
  });

  test('options that onnxruntime does not take', async () => {
    const sessionOptions = { executionProviders: ['none-such'] };
    const refused = reduceVisualTokens(model, uniform(), { ...options, sessionOptions });
    await expect(refused).rejects.toThrow(VisionEncoderError);
  });

  test('a model with reducers in it', async () => {
    await reducing(uniform());
    await expect(reduceVisualTokens(model, uniform(), options)).rejects.toThrow(InvalidArgumentError);
  });
});

describe('calls that cannot be reduced', () => {
  const twice = (tensor: Tensor): Tensor =>
    new Tensor(tensor.type, [...(tensor.data as Float32Array), ...(tensor.data as Float32Array)] as never, [
      2,
      ...tensor.dims.slice(1),
    ]);
  const without = (tensor: Tensor, place: number): Tensor => {
    const data = BigInt64Array.from(tensor.data as BigInt64Array);
    data[place] = tensor.type === 'int64' && place === 0 ? 0n : 4n;
    return new Tensor('int64', data, tensor.dims);
  };
  const placeIn = ({ input_ids: ids }: Inputs, offset: number): number => {
    const token = BigInt((model.config as unknown as { image_token_index: number }).image_token_index);
    return (ids.data as BigInt64Array).indexOf(token) + offset;
  };
  const cases: Record<string, (given: Inputs) => object> = {
    'several pictures': (given) => ({ ...given, pixel_values: twice(given.pixel_values) }),
    'a batch': (given) => ({
      input_ids: twice(given.input_ids),
      attention_mask: twice(given.attention_mask),
      pixel_values: twice(given.pixel_values),
    }),
    padding: (given) => ({ ...given, attention_mask: without(given.attention_mask, 0) }),
    'an image token too few': (given) => ({
      ...given,
      input_ids: without(given.input_ids, placeIn(given, 0)),
    }),
    'image tokens in two places': (given) => ({
      ...given,
      input_ids: without(given.input_ids, placeIn(given, 5)),
    }),
    "positions of the caller's own": (given) => ({ ...given, position_ids: given.attention_mask }),
    'no prompt': ({ pixel_values }) => ({ pixel_values }),
  };
  test.each(Object.keys(cases))('%s', async (name) => {
    await reducing(uniform());
    await expect(model.forward(cases[name](inputs))).rejects.toThrow(UnsupportedCallError);
    expect(await answer(loaded, inputs, 1)).toHaveLength(1);
  });
});

describe('models of fewer bits', () => {
  const siglip = (vision_encoder: DataType, embed_tokens: DataType): Promise<Loaded> =>
    load(SIGLIP, { vision_encoder, embed_tokens, decoder_model_merged: 'fp32' });

  test('an encoder of 8 bits, by its own file', async () => {
    const few = await siglip('q8', 'fp32');
    const whole = await answer(few, await inputsOf(few, ask), 12);
    const given = { visionEncoder: encoderOf(SIGLIP, '_quantized') };
    const reduction = await reduceVisualTokens(few.model, fopruRank({ keepRatio: 1 }), given);
    expect(await answer(few, await inputsOf(few, ask), 12)).toEqual(whole);
    expect(reduction.last?.outputTokens).toBe(16);
    await reduction.restore();
    await few.model.dispose();
  });

  test('embeddings of float16 are refused', async () => {
    const half = await siglip('fp32', 'fp16');
    const reduction = await reduceVisualTokens(half.model, uniform(), { visionEncoder: encoderOf(SIGLIP) });
    await expect(answer(half, await inputsOf(half, ask), 1)).rejects.toThrow(UnsupportedModelError);
    await reduction.restore();
    await half.model.dispose();
  });
});
