/** One call inside the engine: encode, have the tokens reduced, prefill, decode. */
import { signalId, type Span } from '@foveate/core';
import { BundleError, PromptError } from '../platform/errors.js';
import type { CallerApi, GenerateRequest, Outcome } from './api.js';
import { held, sent, type Awaited, type SignalReader } from './awaited.js';
import type { SizedTokens } from './calibration.js';
import type { Decoder } from './decoder.js';
import { placed, type KeptTurns, type PlacedImage } from './kept-turns.js';
import { promptReaders, promptSignals } from './prompt-signals.js';
import { createSampler } from './sampling.js';
import { firstOf, type Past, type Position, type Prefill, type Prompt, type Sequence } from './sequence.js';
import type { ReadImage, Vision, VisionContext } from './vision.js';

/** The call was stopped by the caller's thread. */
export class Stopped extends Error {}

/** What a call needs of the engine around it. */
export interface CallContext {
  readonly now: () => number;
  readonly decoder: Decoder;
  readonly vision: Vision;
  readonly keptTurns: KeptTurns;
  readonly awaited: Awaited;
  readonly caller: CallerApi;
}

/** @throws Stopped, PromptError, BundleError, WorkerError, what the caller's thread throws */
export async function generate(request: GenerateRequest, context: CallContext): Promise<Outcome> {
  const { decoder, now } = context;
  const stopIfAsked = (): void => {
    if (Atomics.load(request.stop, 0) === 1) throw new Stopped();
  };
  const goesOn = keepsTurns(request) && (await decoder.runsBehindOthers());
  const reused = goesOn ? reusedPart(request, context.keptTurns) : NOTHING;
  const words = request.promptIds.filter((id) => id !== request.imageTokenId);
  const roomFor = promptLimit(request, words.length);
  roomFor(reused.images);
  const text = await decoder.embed(words); // [T, D]
  const embed = (ids: readonly number[]): Promise<Float32Array> => decoder.embed(ids);
  const read = await readImages(request, text, reused.images, { ...context, embed, stopIfAsked }, roomFor);
  const images = [...reused.images, ...read.map(placed)];
  const warnings: string[] = [];
  const limit = tokenLimit(request, roomFor(images), warnings);

  const prefillStart = now();
  const prompt = layOut(request, text, reused, read);
  const visual = sum(images.map(({ origins }) => origins.length));
  const sized = request.calibration && sizedTokens(prompt, read);
  const sequence =
    request.calibration && sized
      ? await decoder.startCalibrated(request.calibration, sized)
      : await decoder.start(request.language, visual, reused.past);
  stopIfAsked();
  const prefilling = { ...context, stopIfAsked };
  const { logits, plans, decidingMs, ...made } = reused.past
    ? {
        ...reused,
        logits: await sequence.append(prompt.embeddings, prompt.positions),
        decidingMs: 0,
        warnings: [],
      }
    : await prefill(sequence, prompt, text, prefilling);
  const prefillMs = now() - prefillStart - decidingMs;
  const promptLength = sequence.length;
  const seen = new Set([...request.promptIds, ...images.flatMap(({ written }) => written)]);
  const answer = await decode(request, { ...context, sequence, logits, limit, seen, stopIfAsked });
  keepTurn(request, answer, { images, plans, reused }, sequence, context.keptTurns);
  return {
    ...answer,
    crops: images.map(({ crops }) => crops),
    origins: originsOf(images),
    languagePlans: plans,
    visionMs: sum(read.map(({ visionMs }) => visionMs)),
    reduceMs: sum(read.map(({ reduceMs }) => reduceMs)) + decidingMs,
    prefillMs,
    cached: { text: promptLength - visual, visual, generated: answer.steps },
    reusedTokens: reused.past?.length ?? 0,
    kvBytesPerLayer: sequence.kvBytesPerLayer(),
    warnings: [...warnings, ...made.warnings],
  };
}

/** Whether turns of a chat go on behind one another: calibrated attention is that of the turn's own prompt. */
function keepsTurns({ chat, calibration }: GenerateRequest): boolean {
  return chat !== null && calibration === null;
}

/** Sizes of a prompt's tokens; null where each stands for itself. */
function sizedTokens({ visual, spans, length }: Prompt, images: readonly ReadImage[]): SizedTokens | null {
  if (images.every(({ sizes }) => sizes === null)) return null;
  const own = new Float32Array(length);
  const uniform = new Float32Array(length);
  for (const [i, { start, length: count }] of spans.entries()) {
    const { sizes, positions } = images[i];
    for (const [token, place] of visual.slice(start, start + count).entries()) {
      own[place] = Math.log(sizes?.[token] ?? 1);
      uniform[place] = Math.log((positions?.end ?? count) / count);
    }
  }
  return { own, uniform };
}

/** The part of a prompt that an earlier turn of its chat ran. */
interface ReusedPart {
  /** How many of the prompt's ids. */
  readonly ids: number;
  readonly images: readonly PlacedImage[];
  readonly plans: Outcome['languagePlans'];
  readonly decidedOn: number;
  /** Null: none. */
  readonly past: Past | null;
}

const NOTHING: ReusedPart = { ids: 0, images: [], plans: [], decidedOn: 0, past: null };

/**
 * The ids that a prompt has in common with the turn before it, but the last one, which is run for its logits.
 * Where visual tokens were dropped inside the language model, it is nothing unless the decision stands: it
 * was made on ids that the prompt still begins with, and no image came since.
 */
function reusedPart(
  { chat, promptIds, imageTokenId, language }: GenerateRequest,
  kept: KeptTurns,
): ReusedPart {
  const behind = chat?.behind ?? null;
  const turn = behind === null ? null : kept.find(behind);
  if (!turn) return NOTHING;
  const differ = promptIds.findIndex((id, i) => id !== turn.ids[i]);
  const ids = differ < 0 ? promptIds.length - 1 : differ;
  const images = turn.images.slice(0, promptIds.slice(0, ids).filter((id) => id === imageTokenId).length);
  const isNewImage = promptIds.slice(ids).includes(imageTokenId);
  if (ids < turn.decidedOn || (language.length > 0 && isNewImage)) return NOTHING;
  const words = ids - images.length;
  const length = words + sum(images.map((image) => image.length));
  const next = words + sum(images.map(({ positions }) => positions));
  if (length < turn.past.length && !turn.past.caches.every(({ isDivisible }) => isDivisible)) return NOTHING;
  const { languagePlans: plans, decidedOn } = turn;
  return { ids, images, plans, decidedOn, past: firstOf(turn.past, length, next) };
}

/** Keeps what was run, where the call is a turn of a chat. */
function keepTurn(
  request: GenerateRequest,
  { tokenIds, steps }: Pick<Outcome, 'tokenIds' | 'steps'>,
  { images, plans, reused }: { images: PlacedImage[]; plans: Outcome['languagePlans']; reused: ReusedPart },
  sequence: Sequence,
  kept: KeptTurns,
): void {
  const { chat, promptIds, language } = request;
  if (!chat || !keepsTurns(request)) return;
  const decidedNow = language.length > 0 && images.length > 0 ? promptIds.length : 0;
  kept.keep(chat.keepAs, {
    ids: [...promptIds, ...tokenIds.slice(0, steps)],
    images,
    decidedOn: reused.past ? reused.decidedOn : decidedNow,
    languagePlans: plans,
    past: sequence.past(),
  });
}

/**
 * Encodes the images that are new one by one, so that no more than one is in memory, and has their tokens
 * reduced where the call asks for it.
 */
async function readImages(
  request: GenerateRequest,
  text: Float32Array,
  reused: readonly PlacedImage[],
  context: VisionContext & Pick<CallContext, 'vision'>,
  roomFor: (images: readonly PlacedImage[]) => number,
): Promise<ReadImage[]> {
  const images: ReadImage[] = [];
  const known = [...reused];
  for (let index = reused.length; index < request.images; index++) {
    context.stopIfAsked();
    const prepared = await context.caller.image(index);
    const image = await context.vision.readImage({ index, prepared, request, text }, context);
    images.push(image);
    known.push(placed(image));
    roomFor(known);
  }
  return images;
}

/** Runs the prompt; what the reducers inside the language model take is told apart. */
async function prefill(
  sequence: Sequence,
  prompt: Prompt,
  text: Float32Array,
  { now, caller, awaited, stopIfAsked }: Omit<VisionContext, 'embed'>,
): Promise<Prefill & { readonly decidingMs: number }> {
  let decidingMs = 0;
  const ofPrompt = promptReaders({ text, prompt, products: awaited.products });
  const entered = prompt.visual.length;
  const made = await sequence.prefill(prompt, async ({ signals, ...tokens }) => {
    const start = now();
    stopIfAsked(); // as for an image
    const ofLayers = signals.map((signal): [string, SignalReader] => [signalId(signal), () => signal.values]);
    const asked = { length: tokens.places.length, signals: new Map([...ofPrompt, ...ofLayers]) };
    const message = { ...tokens, entered, signals: [...signals.map(sent), ...promptSignals.map(held)] };
    const plans = await awaited.during([asked], () => caller.planPrompt(message));
    decidingMs += now() - start;
    return plans;
  });
  return { ...made, decidingMs };
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
function originsOf(images: readonly PlacedImage[]): Uint32Array {
  return Uint32Array.from(
    images.flatMap(({ origins }, image) => origins.flatMap(({ crop, token }) => [image, crop, token])),
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
): (read: readonly PlacedImage[]) => number {
  return (read) => {
    if (contextLength === null) return Infinity;
    const length = words + sum(read.map((image) => image.length)) + images - read.length;
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

/** What is to be run of the prompt, each image token replaced by its image's rows. */
function layOut(
  { promptIds, imageTokenId }: GenerateRequest,
  text: Float32Array, // [T, D]
  reused: ReusedPart,
  images: readonly ReadImage[],
): Prompt {
  const ids = promptIds.slice(reused.ids);
  const width = text.length / (promptIds.length - reused.images.length - images.length);
  const length = ids.length - images.length + sum(images.map(({ rows }) => rows.length));
  const embeddings = new Float32Array(length * width);
  const visual: number[] = [];
  const spans: Span[] = [];
  const positions: Position[] = [];
  let next = reused.past?.next ?? 0;
  let word = reused.ids - reused.images.length;
  let place = 0;
  for (const id of ids) {
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
