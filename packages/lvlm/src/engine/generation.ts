/** One call inside the engine: encode, have the tokens reduced, prefill, decode. */
import { signalId, textEmbeddings, type Span } from '@foveate/core';
import { BundleError, PromptError } from '../platform/errors.js';
import type { CallerApi, GenerateRequest, Outcome } from './api.js';
import type { Awaited } from './awaited.js';
import type { Decoder } from './decoder.js';
import { createSampler } from './sampling.js';
import type { Position, Prompt, Sequence } from './sequence.js';
import type { ReadImage, Vision, VisionContext } from './vision.js';

/** The call was stopped by the caller's thread. */
export class Stopped extends Error {}

/** What a call needs of the engine around it. */
export interface CallContext {
  readonly now: () => number;
  readonly decoder: Decoder;
  readonly vision: Vision;
  readonly awaited: Awaited;
  readonly caller: CallerApi;
}

/** @throws Stopped, PromptError, BundleError, WorkerError, what the caller's thread throws */
export async function generate(request: GenerateRequest, context: CallContext): Promise<Outcome> {
  const { decoder, now } = context;
  const stopIfAsked = (): void => {
    if (Atomics.load(request.stop, 0) === 1) throw new Stopped();
  };
  const words = request.promptIds.filter((id) => id !== request.imageTokenId);
  const roomFor = promptLimit(request, words.length);
  roomFor([]);
  const text = await decoder.embed(words); // [T, D]
  const embed = (ids: readonly number[]): Promise<Float32Array> => decoder.embed(ids);
  const images = await readImages(request, text, { ...context, embed, stopIfAsked }, roomFor);
  const warnings: string[] = [];
  const limit = tokenLimit(request, roomFor(images), warnings);

  const prefillStart = now();
  const prompt = layOut(request, text, images);
  const sequence = await decoder.start(request.language, prompt.visual.length);
  stopIfAsked();
  const { logits, plans, decidingMs } = await prefill(sequence, prompt, text, { ...context, stopIfAsked });
  const prefillMs = now() - prefillStart - decidingMs;
  const seen = new Set([...request.promptIds, ...images.flatMap(({ written }) => written)]);
  const answer = await decode(request, { ...context, sequence, logits, limit, seen, stopIfAsked });
  return {
    ...answer,
    crops: images.map(({ crops }) => crops),
    origins: originsOf(images),
    languagePlans: plans,
    visionMs: sum(images.map(({ visionMs }) => visionMs)),
    reduceMs: sum(images.map(({ reduceMs }) => reduceMs)) + decidingMs,
    prefillMs,
    cached: {
      text: prompt.length - prompt.visual.length,
      visual: prompt.visual.length,
      generated: answer.steps,
    },
    kvBytesPerLayer: sequence.kvBytesPerLayer(),
    warnings,
  };
}

/**
 * Encodes the images one by one, so that no more than one is in memory, and has their tokens reduced where
 * the call asks for it.
 */
async function readImages(
  request: GenerateRequest,
  text: Float32Array,
  context: VisionContext & Pick<CallContext, 'vision'>,
  roomFor: (images: readonly ReadImage[]) => number,
): Promise<ReadImage[]> {
  const images: ReadImage[] = [];
  for (let index = 0; index < request.images; index++) {
    context.stopIfAsked();
    const prepared = await context.caller.image(index);
    images.push(await context.vision.readImage({ index, prepared, request, text }, context));
    roomFor(images);
  }
  return images;
}

/** Runs the prompt; what the reducers inside the language model take is told apart. */
async function prefill(
  sequence: Sequence,
  prompt: Prompt,
  text: Float32Array,
  { now, caller, awaited, stopIfAsked }: Omit<VisionContext, 'embed'>,
): Promise<{ logits: Float32Array; plans: Outcome['languagePlans']; decidingMs: number }> {
  let decidingMs = 0;
  const { logits, plans } = await sequence.prefill(prompt, async (layer, spans, signals) => {
    const start = now();
    stopIfAsked(); // as for an image
    const length = sum(spans.map((span) => span.length));
    const asked = new Map([[signalId(textEmbeddings()), () => text]]);
    const made = await awaited.during({ length, signals: asked }, () =>
      caller.planPrompt({ layer, spans, signals }),
    );
    decidingMs += now() - start;
    return made;
  });
  return { logits, plans, decidingMs };
}

/** What decoding needs. */
interface DecodingContext extends CallContext {
  readonly sequence: Sequence;
  /** Behind the prompt. [vocabulary] */
  readonly logits: Float32Array;
  /** Most tokens to generate. */
  readonly limit: number;
  /** Token ids of the prompt; those of the answer are added. */
  readonly seen: Set<number>;
  readonly stopIfAsked: () => void;
}

/** Chooses tokens until the model, or the limit, ends the answer. */
async function decode(
  request: GenerateRequest,
  { decoder, caller, now, sequence, limit, seen, stopIfAsked, ...prefilled }: DecodingContext,
): Promise<Pick<Outcome, 'tokenIds' | 'finishReason' | 'firstTokenAt' | 'lastTokenAt' | 'steps'>> {
  const { temperature, seed, rules } = request;
  const sample = createSampler({ ...rules, temperature, seed });
  const ends = new Set(request.endTokenIds);
  const promptLength = sequence.length;
  const tokenIds: number[] = [];
  let token = sample(prefilled.logits, seen);
  const firstTokenAt = now();
  while (!ends.has(token)) {
    tokenIds.push(token);
    seen.add(token);
    if (request.stream) caller.token(token);
    if (tokenIds.length === limit) break;
    stopIfAsked();
    token = sample(await sequence.append(await decoder.embed([token])), seen);
  }
  return {
    tokenIds,
    finishReason: ends.has(token) ? 'end' : 'length',
    firstTokenAt,
    lastTokenAt: now(),
    steps: sequence.length - promptLength,
  };
}

/** [V * 3], see {@link Outcome}. */
function originsOf(images: readonly ReadImage[]): Uint32Array {
  return Uint32Array.from(
    images.flatMap(({ rows }, image) =>
      rows.flatMap(({ origin }) => (origin ? [image, origin.crop, origin.token] : [])),
    ),
  );
}

/**
 * A function that says how many tokens the context has left behind the prompt, as far as its images are
 * known; each of the others has one token at least.
 * @throws PromptError in that function, where there is no room: before any further image is decoded
 */
function promptLimit(
  { contextLength, images }: GenerateRequest,
  words: number,
): (read: readonly ReadImage[]) => number {
  return (read) => {
    if (contextLength === null) return Infinity;
    const length = words + sum(read.map(({ rows }) => rows.length)) + images - read.length;
    if (contextLength - length >= 1) return contextLength - length;
    const atLeast = read.length < images ? 'at least ' : '';
    throw new PromptError(
      `The prompt has ${atLeast}${length} tokens, visual ones included; the model's context holds ${contextLength}: ${length - contextLength + 1} too many. Shorten it or keep fewer visual tokens.`,
    );
  };
}

/** How many tokens may be generated. */
function tokenLimit(
  { maxNewTokens, contextLength }: GenerateRequest,
  room: number,
  warnings: string[],
): number {
  if (room < maxNewTokens)
    warnings.push(
      `The model's context of ${contextLength} tokens leaves room for ${room} new ones instead of ${maxNewTokens}.`,
    );
  return Math.min(room, maxNewTokens);
}

/** The prompt, each image token replaced by its image's rows. */
function layOut(
  { promptIds, imageTokenId }: GenerateRequest,
  text: Float32Array, // [T, D]
  images: readonly ReadImage[],
): Prompt {
  const words = promptIds.length - images.length;
  const width = text.length / words;
  const length = words + sum(images.map(({ rows }) => rows.length));
  const embeddings = new Float32Array(length * width);
  const visual: number[] = [];
  const spans: Span[] = [];
  const positions: Position[] = [];
  let next = 0;
  let word = 0;
  let place = 0;
  for (const id of promptIds) {
    if (id !== imageTokenId) {
      embeddings.set(text.subarray(word * width, ++word * width), place++ * width);
      positions.push([next++]);
      continue;
    }
    const start = visual.length;
    const image = images[spans.length];
    const first = next;
    for (const [i, { values, origin }] of image.rows.entries()) {
      checkWidth(values, width);
      positions.push(image.positions?.rows[i].map((axis) => first + axis) ?? [next++]);
      embeddings.set(values, place * width);
      if (origin) visual.push(place);
      place++;
    }
    if (image.positions) next += image.positions.end;
    spans.push({ start, length: visual.length - start });
  }
  return { embeddings, length, positions, visual, spans };
}

function checkWidth({ length }: Float32Array, width: number): void {
  if (length === width) return;
  throw new BundleError(
    `The encoder's features have ${length} numbers a token, the embeddings ${width}: the graphs are of different models.`,
  );
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
