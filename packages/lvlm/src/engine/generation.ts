/** One call inside the worker: encode, have the tokens reduced, prefill, decode. */
import type { Span } from '@foveate/core';
import type { Decoder } from './decoder.js';
import type { EncodedImage, Encoder } from './encoder.js';
import { BundleError, PromptError } from '../platform/errors.js';
import { now, type GenerateRequest, type Outcome, type Rows } from './protocol.js';
import { createSampler } from './sampling.js';
import type { Prompt, PromptPlanner } from './sequence.js';

/** The call was stopped by the caller's thread. */
export class Stopped extends Error {}

/** What a call needs of the worker around it. */
export interface CallContext {
  readonly decoder: Decoder;
  readonly encoder: Encoder;
  /** Tells the caller's thread of an image's signals, and resolves to what its plans leave. */
  readonly reduceImage: (image: number, encoded: EncodedImage, handOut: boolean) => Promise<Rows>;
  /** Resolves to the plan for all visual tokens of the prompt, inside the decoder. */
  readonly requestPromptPlan: PromptPlanner;
  readonly emitToken: (token: number) => void;
}

/** @throws Stopped, PromptError, BundleError, UnsupportedReducerError, WorkerError */
export async function generate(request: GenerateRequest, context: CallContext): Promise<Outcome> {
  const { decoder } = context;
  if (request.language) decoder.check(request.language);
  const stopIfAsked = (): void => {
    if (Atomics.load(request.stop, 0) === 1) throw new Stopped();
  };

  const { visual, images, vision, reduce } = await readImages(request, context, stopIfAsked);
  const warnings: string[] = [];
  const limit = tokenLimit(request, visual, warnings);

  const visualLength = visual.reduce((sum, rows) => sum + rows.length, 0);
  const sequence = await decoder.start(request.language, visualLength);
  const prefillStart = now();
  const prompt = await readPrompt(request, visual, decoder);
  stopIfAsked();
  const sample = createSampler(request.temperature, request.seed);
  let deciding = 0;
  const first = await sequence.prefill(prompt, async (...signals) => {
    const start = now();
    stopIfAsked(); // as for an image
    const plan = await context.requestPromptPlan(...signals);
    deciding = now() - start;
    return plan;
  });
  let { logits } = first;
  const prefill = now() - prefillStart - deciding;

  const tokens: number[] = [];
  const ends = new Set(request.endTokenIds);
  let token = sample(logits);
  const firstTokenAt = now();
  while (!ends.has(token)) {
    tokens.push(token);
    if (request.stream) context.emitToken(token);
    if (tokens.length === limit) break;
    stopIfAsked();
    logits = await sequence.append(await decoder.embed([token]));
    token = sample(logits);
  }
  const steps = sequence.length - prompt.length;
  return {
    tokens,
    finishReason: ends.has(token) ? 'end' : 'length',
    images,
    languagePlan: first.plan,
    vision,
    reduce: reduce + deciding,
    prefill,
    firstTokenAt,
    lastTokenAt: now(),
    steps,
    cached: { text: prompt.length - visualLength, visual: visualLength, generated: steps },
    kvBytesPerLayer: sequence.kvBytesPerLayer(),
    warnings,
  };
}

/** Encodes the images, and has their tokens reduced where the call asks for it. */
async function readImages(
  request: GenerateRequest,
  { encoder, reduceImage }: CallContext,
  stopIfAsked: () => void,
): Promise<{ visual: Rows[]; images: Outcome['images'][number][]; vision: number; reduce: number }> {
  let vision = 0;
  let reduce = 0;
  const visual: Rows[] = [];
  const images: Outcome['images'][number][] = [];
  for (const [index, pixels] of request.images.entries()) {
    stopIfAsked();
    const start = now();
    const encoded = await encoder.encode(pixels, request.reuse?.[index]);
    const encodedAt = now();
    stopIfAsked(); // the last look at the flag before waiting; afterwards a message ends the wait
    const reduced = request.encoder ? await reduceImage(index, encoded, request.handOut) : encoded.features;
    const reducedAt = now();
    visual.push(await encoder.project(reduced)); // [M, D]
    vision += encodedAt - start + (now() - reducedAt);
    reduce += reducedAt - encodedAt;
    images.push({ grid: encoded.grid, inputTokens: encoded.features.length, outputTokens: reduced.length });
  }
  return { visual, images, vision, reduce };
}

/** How many tokens may be generated. */
function tokenLimit(
  { ids, images, contextLength, maxNewTokens }: GenerateRequest,
  visual: readonly Rows[],
  warnings: string[],
): number {
  if (contextLength === null) return maxNewTokens;
  const length = visual.reduce((sum, rows) => sum + rows.length, ids.length - images.length);
  const room = contextLength - length;
  if (room < 1)
    throw new PromptError(
      `The prompt has ${length} tokens, visual ones included; the model's context holds ${contextLength}. Shorten it or keep fewer visual tokens.`,
    );
  if (room < maxNewTokens)
    warnings.push(
      `The model's context of ${contextLength} tokens leaves room for ${room} new ones instead of ${maxNewTokens}.`,
    );
  return Math.min(room, maxNewTokens);
}

/** The prompt, each image token replaced by its image's visual tokens. */
async function readPrompt(
  { ids, imageTokenId }: GenerateRequest,
  visual: readonly Rows[],
  decoder: Decoder,
): Promise<Prompt> {
  const words = ids.filter((id) => id !== imageTokenId);
  const text = await decoder.embed(words); // [words.length, D]
  const width = text.length / words.length;
  const length = visual.reduce((sum, rows) => sum + rows.length, words.length);
  const embeddings = new Float32Array(length * width);
  const places: number[] = [];
  const spans: Span[] = [];
  let word = 0;
  let place = 0;
  for (const { data: rows, length: count } of visual) {
    if (rows.length === count * width) continue;
    throw new BundleError(
      `The encoder's features have ${rows.length / count} numbers a token, the embeddings ${width}: the graphs are of different models.`,
    );
  }
  for (const id of ids) {
    if (id === imageTokenId) {
      const { data: rows, length: count } = visual[spans.length];
      spans.push({ start: places.length, length: count });
      for (let i = 0; i < count; i++) places.push(place + i);
      embeddings.set(rows, place * width);
      place += count;
    } else embeddings.set(text.subarray(word * width, ++word * width), place++ * width);
  }
  return { embeddings, length, visual: places, spans };
}
