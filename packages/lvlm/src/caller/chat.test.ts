/**
 * A chat answers as one call with its whole history does, token by token, whatever it kept, cut back or
 * forgot between two turns.
 */
import {
  beforeLanguageLayer,
  defineReducer,
  mergePlan,
  selectionPlan,
  type Span,
  type TokenReducer,
} from '@foveate/core';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { pooling } from '@foveate/pooling';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { CACHE, copyOfFixture, editJson, FIXTURE, picture } from '../../test/bundles.js';
import { familyBundle, familyPicture } from '../../test/families.js';
import {
  DisposedError,
  Lvlm,
  PromptError,
  type Chat,
  type ChatOptions,
  type GenerateResult,
  type ImageInput,
} from '../index.js';

const QUESTIONS = ['What is it?', 'And what is left of it, then?', 'Why?', 'How many of them are there?'];
const TOKENS = 6;

/** The turn, and one call with all that was said before it. */
async function bothWays(
  model: Lvlm,
  chat: Chat,
  question: string,
  { images = [], reducers = [] }: Pick<ChatOptions, 'images' | 'reducers'>,
): Promise<{ turn: GenerateResult; whole: GenerateResult }> {
  const said = chat.messages;
  const turn = await chat.ask(question, { images, maxNewTokens: TOKENS });
  const asked = chat.messages[said.length];
  const whole = await model.generate({ messages: [...said, asked], reducers, maxNewTokens: TOKENS });
  return { turn, whole };
}

/** Every other token of an image as it is, and behind those the others in pairs, the last ones first. */
function halved({ start, length }: Span): { sources: number[]; weights: number[] }[] {
  const tokens = Array.from({ length }, (_, i) => start + i);
  const kept = tokens.filter((_, i) => i % 2 === 0).map((token) => ({ sources: [token], weights: [1] }));
  const others = tokens.filter((_, i) => i % 2 === 1);
  const pairs = others.flatMap((token, i) =>
    i % 2 === 0
      ? [{ sources: others.slice(i, i + 2), weights: [0.5, 0.75].slice(0, others.length - i) }]
      : [],
  );
  return [...kept, ...pairs.reverse()];
}

function promptLength({ memory: { cached } }: GenerateResult): number {
  return cached.text + cached.visual;
}

describe.each(['llava', 'llava_onevision', 'idefics3', 'qwen2_vl', 'qwen2_5_vl'])('%s', (family) => {
  let model: Lvlm;
  beforeAll(async () => {
    model = await Lvlm.load(familyBundle(family), { cacheDirectory: CACHE });
  });
  afterAll(() => model.dispose());
  const [first, second, third] = [1, 2, 3].map((seed) => familyPicture([seed, 56, 56]));

  test.each<[string, TokenReducer[]]>([
    ['every token', []],
    ['FoPru', [fopruRank()]],
    ['pooling', [pooling()]],
  ])('%s: four turns, an image in the third', async (_, reducers) => {
    const chat = model.chat({ images: [first, second], reducers });
    for (const [i, question] of QUESTIONS.entries()) {
      const images: ImageInput[] = i === 2 ? [third] : [];
      const before = i === 0 ? null : chat.messages;
      const { turn, whole } = await bothWays(model, chat, question, { images, reducers });
      expect(turn.tokenIds).toEqual(whole.tokenIds);
      expect(turn.images).toEqual(whole.images);
      expect(turn.memory.cached).toEqual(whole.memory.cached);
      expect(turn.memory.kvBytes).toBe(whole.memory.kvBytes);
      expect(turn.equivalentTokens).toBe(whole.equivalentTokens);
      expect(whole.reusedTokens).toBe(0);
      if (before) expect(turn.reusedTokens).toBeGreaterThan(promptLength(whole) / 3);
      else expect(turn.reusedTokens).toBe(0);
    }
    chat.dispose();
  });

  test('an image alone, then another', async () => {
    const chat = model.chat({ images: [familyPicture([4, 96, 48])] });
    for (const images of [[], [familyPicture([5, 48, 96])], []]) {
      const { turn, whole } = await bothWays(model, chat, QUESTIONS[0], { images });
      expect(turn.tokenIds).toEqual(whole.tokenIds);
      expect(turn.images).toEqual(whole.images);
      expect(turn.memory.cached).toEqual(whole.memory.cached);
    }
  });

  test('what FastV dropped stays dropped, in one graph and in two', async () => {
    const ruled = fastv({ layer: 1, keepRatio: 0.25 });
    const { at, requires } = ruled;
    const plan: TokenReducer['plan'] = (...given) => ruled.plan(...given);
    for (const reducer of [ruled, defineReducer({ name: 'fastv', at, requires, plan })]) {
      const chat = model.chat({ images: [first, second], reducers: [reducer] });
      const { images } = await chat.ask(QUESTIONS[0], { maxNewTokens: TOKENS });
      let visual = 0;
      const kept = images.flatMap(({ crops }) =>
        crops.flatMap(({ steps: [step] }) => {
          const start = visual;
          visual += step.inputTokens;
          return step.kept?.map((token) => start + token) ?? [];
        }),
      );
      const decided = defineReducer({
        ...{ name: 'decided', at, requires: {} },
        plan: async ({ length }) => selectionPlan(kept, length),
      });
      for (const question of QUESTIONS.slice(1)) {
        const { turn, whole } = await bothWays(model, chat, question, { reducers: [decided] });
        expect(turn.tokenIds).toEqual(whole.tokenIds);
        expect(turn.memory.kvBytesPerLayer).toEqual(whole.memory.kvBytesPerLayer);
        expect(turn.equivalentTokens).toBe(whole.equivalentTokens);
        expect(turn.images).toEqual(images);
        expect(turn.reusedTokens).toBeGreaterThan(promptLength(turn) / 2);
      }
      const { turn, whole } = await bothWays(model, chat, 'And this?', {
        images: [third],
        reducers: [reducer],
      });
      expect(turn.reusedTokens).toBe(0); // decided anew
      expect(turn.tokenIds).toEqual(whole.tokenIds);
      expect(turn.images).toEqual(whole.images);
    }
  });

  test('behind tokens that were merged and renumbered', async () => {
    const reducer = defineReducer({
      ...{ name: 'halved', at: [beforeLanguageLayer(1), beforeLanguageLayer(2)], requires: {} },
      positions: 'renumbered',
      plan: async ({ length, spans }) => mergePlan(spans.flatMap(halved), length),
    });
    const chat = model.chat({ images: [first, second], reducers: [reducer] });
    for (const question of QUESTIONS) {
      const { turn, whole } = await bothWays(model, chat, question, { reducers: [reducer] });
      expect(turn.tokenIds).toEqual(whole.tokenIds);
      expect(turn.memory.kvBytesPerLayer).toEqual(whole.memory.kvBytesPerLayer);
      if (question !== QUESTIONS[0]) expect(turn.reusedTokens).toBeGreaterThan(promptLength(turn) / 3);
    }
  });
});

describe('chats on one model', () => {
  let model: Lvlm;
  beforeAll(async () => {
    model = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE });
  });
  afterAll(() => model.dispose());
  const reducers = [fopruRank()];
  const options = { images: [picture(1)], reducers };

  it('go on separately from where one was forked', async () => {
    const one = model.chat(options);
    await one.ask('Which?', { maxNewTokens: TOKENS });
    const other = one.fork();
    for (const question of QUESTIONS) {
      for (const chat of [one, other]) {
        const { turn, whole } = await bothWays(model, chat, chat === one ? question : `No: ${question}`, {
          reducers,
        });
        expect(turn.tokenIds).toEqual(whole.tokenIds);
        expect(turn.reusedTokens).toBeGreaterThan(0);
      }
    }
    expect(one.messages).toHaveLength(10);
    one.dispose();
    const { turn, whole } = await bothWays(model, other, 'Still?', { reducers });
    expect(turn.tokenIds).toEqual(whole.tokenIds);
    expect(turn.reusedTokens).toBeGreaterThan(0);
    await expect(one.ask('?')).rejects.toThrow(DisposedError);
    expect(() => one.fork()).toThrow(DisposedError);
  });

  it('answer questions that are asked at once one after the other', async () => {
    const chats = [model.chat(options), model.chat({ ...options, images: [picture(2), picture(1)] })];
    const answers = await Promise.all(
      chats.map((chat) => Promise.all(QUESTIONS.map((question) => chat.ask(question, { maxNewTokens: 3 })))),
    );
    for (const [i, chat] of chats.entries()) {
      expect(chat.messages.map(({ content }) => content)).toEqual(
        QUESTIONS.flatMap((question, turn) => [question, answers[i][turn].text]),
      );
      for (const [turn, { tokenIds }] of answers[i].entries()) {
        const messages = chat.messages.slice(0, 2 * turn + 1);
        const whole = await model.generate({ messages, reducers, maxNewTokens: 3 });
        expect(tokenIds).toEqual(whole.tokenIds);
      }
    }
  });

  it('take a turn that was aborted as not asked', async () => {
    const chat = model.chat(options);
    await chat.ask('Which?', { maxNewTokens: TOKENS });
    const said = chat.messages;
    const controller = new AbortController();
    const onToken = (): void => {
      controller.abort(new Error('enough'));
    };
    const asked = chat.ask('What?', { abortSignal: controller.signal, onToken, maxNewTokens: 50 });
    await expect(asked).rejects.toThrow('enough');
    expect(chat.messages).toEqual(said);
    const { turn, whole } = await bothWays(model, chat, 'Who?', { reducers });
    expect(turn.tokenIds).toEqual(whole.tokenIds);
    expect(turn.reusedTokens).toBeGreaterThan(0);
  });

  it('keep the images for the next question where the first fails', async () => {
    const chat = model.chat(options);
    await expect(chat.ask('<image>')).rejects.toThrow(PromptError);
    const { images } = await chat.ask('Which?', { maxNewTokens: 1 });
    expect(images).toHaveLength(1);
  });

  it('go on with what was said elsewhere', async () => {
    const one = model.chat(options);
    await one.ask('Which?', { maxNewTokens: TOKENS });
    const again = model.chat({ messages: one.messages, reducers });
    const [a, b] = [await one.ask('Why?', { maxNewTokens: 4 }), await again.ask('Why?', { maxNewTokens: 4 })];
    expect(b.tokenIds).toEqual(a.tokenIds);
    expect(b.reusedTokens).toBe(0);
    expect(again.messages).toEqual(one.messages);
  });

  it('stream', async () => {
    const chat = model.chat(options);
    const ids: number[] = [];
    for await (const { tokenId } of chat.stream('Which?', { maxNewTokens: 5 })) ids.push(tokenId);
    const whole = await model.generate({ messages: chat.messages.slice(0, 1), reducers, maxNewTokens: 5 });
    expect(ids).toEqual(whole.tokenIds);
  });

  it('take nothing that no turn can be', () => {
    const chat =
      (messages: unknown): (() => Chat) =>
      () =>
        model.chat({ messages } as ChatOptions);
    expect(chat('hello')).toThrow(/messages/);
    expect(chat([null])).toThrow(/messages\[0\]\.role/);
    expect(chat([{ role: 'tool', content: 'x' }])).toThrow(/messages\[0\]\.role.*system, user, assistant/s);
    expect(chat([{ role: 'assistant' }])).toThrow(/messages\[0\]\.content/);
    expect(chat([{ role: 'user', content: 'x' }])).toThrow(/before the first question/);
    expect(() => model.chat({ reducers: [{}] } as unknown as ChatOptions)).toThrow(/reducers\[0\]/);
    expect(() => model.chat({ images: 'a.png' } as unknown as ChatOptions)).toThrow(/images/);
  });
});

describe('a chat template that rewrites what was said', () => {
  const rewriting = async (written: string): Promise<Lvlm> => {
    const bundle = await copyOfFixture();
    const parts = `{% if part.type == 'image' %}<image>{% else %}{{ part.text + ' ' }}{% endif %}`;
    const turn = `{% for part in message.content %}${parts}{% endfor %}`;
    const chat_template = `{% for message in messages %}${written}${turn}{% endfor %}{{ 'assistant:' }}`;
    await editJson(bundle, 'tokenizer_config.json', { chat_template });
    return Lvlm.load(bundle, { cacheDirectory: CACHE });
  };
  const lengths = async (model: Lvlm, reducers: TokenReducer[]): Promise<number[]> => {
    const chat = model.chat({ images: [picture(1)], reducers });
    const reused: number[] = [];
    for (const question of QUESTIONS) {
      const { turn, whole } = await bothWays(model, chat, question, { reducers });
      expect(turn.tokenIds).toEqual(whole.tokenIds);
      expect(turn.memory.cached).toEqual(whole.memory.cached);
      reused.push(turn.reusedTokens);
    }
    return reused;
  };

  const VISUAL = 16; // tokens that FoPru leaves of the picture's 64

  it('cuts back to what the turns have in common', async () => {
    const model = await rewriting("{% if loop.last %}{{ 'now ' }}{% else %}{{ 'then ' }}{% endif %}");
    const [first, second, third, fourth] = await lengths(model, [fopruRank()]);
    expect([first, second]).toEqual([0, 1]); // the begin token: "now", before the picture, became "then"
    expect(third).toBeGreaterThan(VISUAL);
    expect(fourth).toBeGreaterThan(third);
    await model.dispose();
  });

  it('has FastV decide anew where the question that it decided on was rewritten', async () => {
    const model = await rewriting('{{ messages | length }}');
    const reducers = [fastv({ layer: 1, keepRatio: 0.25 })];
    expect(await lengths(model, reducers)).toEqual([0, 0, 0, 0]);
    await model.dispose();
  });
});

describe('maxChatBytes', () => {
  const turns = async (
    maxChatBytes: number,
  ): Promise<{ ids: (readonly number[])[]; reused: boolean[]; kvBytes: number }> => {
    const model = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE, maxChatBytes });
    const chats = [model.chat({ images: [picture(1)] }), model.chat({ images: [picture(2)] })];
    const results: GenerateResult[] = [];
    for (const question of QUESTIONS.slice(0, 2)) {
      for (const chat of chats) results.push(await chat.ask(question, { maxNewTokens: 4 }));
    }
    results.push(await chats[1].ask('Again?', { maxNewTokens: 4 }));
    await model.dispose();
    return {
      ids: results.map(({ tokenIds }) => tokenIds),
      reused: results.map(({ reusedTokens }) => reusedTokens > 0),
      kvBytes: results[0].memory.kvBytes,
    };
  };

  it('forgets the chat used longest ago, and no answer changes', async () => {
    const all = await turns(2 ** 30);
    const [one, none] = [await turns(2.5 * all.kvBytes), await turns(0)]; // buffers have room for half as much again
    expect(all.reused).toEqual([false, false, true, true, true]);
    expect(one.reused).toEqual([false, false, false, false, true]);
    expect(none.reused).toEqual([false, false, false, false, false]);
    expect(one.ids).toEqual(all.ids);
    expect(none.ids).toEqual(all.ids);
  });
});
