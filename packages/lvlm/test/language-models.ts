/**
 * The random bundle with its language model in every form, and what each of them computes without a cache and
 * without onnxruntime.
 */
import {
  applyPlan,
  createTokens,
  planTokens,
  requestsOf,
  type GivenSignal,
  type ReductionPlan,
  type SignalRequest,
  type Site,
  type Span,
  type TokenReducer,
} from '@foveate/core';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { StepReport } from '../src/index.js';
import type { PixelValues } from '../src/bundle/preprocessing.js';
import { FIXTURE } from './bundles.js';
import { llamaGraph, randomLlama, type GraphOptions } from './llama-graph.js';
import { forward, normalize, readLlama, type Forward, type Llama, type Reduction } from './llama.js';
import { END, IMAGE, openPlainDecoding, type PlainDecoding, type Rows } from './plain-decoding.js';

/** A bundle, and the weights of its language model. */
export interface LanguageModel {
  readonly bundle: string;
  readonly llama: Llama;
  readonly plain: PlainDecoding;
  remove(): Promise<void>;
}

/**
 * How the language model's attention is written: by torch.onnx with grouped keys, by test/llama-graph.ts,
 * and as onnxruntime-genai does.
 */
export const FORMS = ['torch.onnx', 'written out', 'grouped', 'grouped, no positions'] as const;

/** Those, and the operator of ONNX. */
export const ALL_FORMS: readonly LanguageForm[] = [...FORMS, 'ai.onnx.Attention'];

type LanguageForm = (typeof FORMS)[number] | 'ai.onnx.Attention';

const SIZES = { layers: 4, width: 24, heads: 4, kvHeads: 2, headDim: 16, inner: 48, vocabulary: 260 };
const GRAPHS: Readonly<Record<Exclude<LanguageForm, 'torch.onnx'>, GraphOptions>> = {
  'written out': { attention: 'written out' },
  'ai.onnx.Attention': { attention: 'ai.onnx.Attention' },
  grouped: { attention: 'grouped' },
  'grouped, no positions': { attention: 'grouped', positions: false },
};

/** The random bundle with its language model in that form. */
export async function languageModel(form: LanguageForm): Promise<LanguageModel> {
  if (form === 'torch.onnx') {
    const file = path.join(FIXTURE, 'onnx/decoder_model_merged.onnx');
    const llama = readLlama(file, { heads: 4, kvHeads: 2, headDim: 6, epsilon: 1e-6 });
    return { bundle: FIXTURE, llama, plain: await openPlainDecoding(FIXTURE), remove: async () => undefined };
  }
  const folder = await mkdtemp(path.join(tmpdir(), 'foveate-lvlm-'));
  await cp(FIXTURE, folder, { recursive: true });
  const llama = randomLlama(SIZES);
  await writeFile(path.join(folder, 'onnx/decoder_model_merged.onnx'), llamaGraph(llama, GRAPHS[form]));
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
  return { bundle: folder, llama, plain: await openPlainDecoding(folder), remove };
}

/** The rows of an image that enter the language model, after the plans before it that the runner reports. */
export async function enteringRows(
  plain: PlainDecoding,
  pixels: PixelValues,
  steps: readonly StepReport[],
): Promise<Rows> {
  let rows = await plain.features(pixels);
  for (const { site, plan } of steps) {
    if (site.tower === 'language') continue;
    const width = rows[0].length;
    const reduced = applyPlan(plan, Float32Array.from(rows.flatMap((row) => [...row])));
    rows = Array.from({ length: plan.outputLength }, (_, m) => reduced.slice(m * width, (m + 1) * width));
  }
  return plain.project(rows);
}

/** What {@link referenceAnswer} gives. */
export interface ReferenceAnswer {
  readonly tokens: number[];
  /** Of all visual tokens of the prompt that are left, one a site of the reducer. */
  readonly plans: readonly ReductionPlan[];
}

/**
 * Greedy answer to token ids whose images became `images` before the language model: the reducer's own plans,
 * site by site, on what the whole prompt gives, and then every token anew from the first layer on.
 */
export async function referenceAnswer(
  { llama, plain }: Pick<LanguageModel, 'llama' | 'plain'>,
  ids: readonly number[],
  images: readonly Rows[],
  reducer: TokenReducer,
  maxNewTokens: number,
): Promise<ReferenceAnswer> {
  const rows = [...(await plain.prompt(ids, images))];
  const prompt = { rows: [...rows], ...placesOf(ids, images) };
  const { places: all, spans } = prompt;
  const reductions: Reduction[] = [];
  for (const [stage, site] of (reducer.at as readonly (Site & { layer: number })[]).entries()) {
    const forwarded = forward(llama, rows, reductions);
    const { numbers, isOutput } = forwarded.layers[site.layer];
    const visual = stage === 0 ? all : Array.from(isOutput.keys()).filter((place) => isOutput[place]);
    const ofImage = visual.map((place) => {
      const token = all.indexOf(numbers[place]);
      return spans.findIndex(({ start, length }) => token >= start && token < start + length);
    });
    const there = { llama, prompt, visual, forwarded };
    const tokens = createTokens({
      length: visual.length,
      spans: spansOf(ofImage, images.length),
      places: Uint32Array.from(visual),
      entered: all.length,
      signals: requestsOf(reducer.requires, site).map((request): GivenSignal => {
        return { ...request, values: Float32Array.from(plainSignals[request.signal.name](there, request)) };
      }),
    });
    const plan = await planTokens(reducer, tokens, site, stage);
    const renumbered = reducer.positions === 'renumbered';
    reductions.push({ layer: site.layer, visual, images: ofImage, plan, renumbered });
  }
  const tokens: number[] = [];
  while (tokens.length < maxNewTokens) {
    const { logits } = forward(llama, rows, reductions);
    const token = logits.indexOf(Math.max(...logits));
    if (token === END) break;
    tokens.push(token);
    rows.push(...(await plain.embed([token])));
  }
  return { tokens, plans: reductions.map(({ plan }) => plan) };
}

/** The run that each image has among the visual tokens that are left. */
function spansOf(ofImage: readonly number[], images: number): Span[] {
  let start = 0;
  return Array.from({ length: images }, (_, image) => {
    const length = ofImage.filter((one) => one === image).length;
    start += length;
    return { start: start - length, length };
  });
}

/** A prompt at a site of the language model. */
interface PromptThere {
  readonly llama: Llama;
  readonly prompt: { readonly rows: Rows; readonly places: readonly number[] };
  /** Places of the visual tokens that are left. */
  readonly visual: readonly number[];
  readonly forwarded: Forward;
}

/** Every signal of the language model in plain JS. */
const plainSignals: Readonly<Record<string, (there: PromptThere, request: SignalRequest) => number[]>> = {
  promptAttention: ({ forwarded, visual }, { layer, parameters }) => {
    const rows = forwarded.attention.at(layer as number)!;
    const asking = parameters.rows === 'last' ? rows.slice(-1) : rows.slice(visual[visual.length - 1] + 1);
    return visual.map((place) => asking.reduce((sum, row) => sum + row[place], 0) / asking.length);
  },
  questionAttention: (there, { layer }) => {
    const asking = there.forwarded.attention.at(layer as number)!.slice(-questionOf(there));
    return there.visual.flatMap((place) => asking.map((row) => row[place]));
  },
  questionRelevance: ({ prompt: { rows, places } }) => {
    const question = rows.slice(places[places.length - 1] + 1);
    const sums = question.map(() => 0);
    for (const place of places) {
      const scores = question.map((row) => Math.exp(row.reduce((sum, x, d) => sum + x * rows[place][d], 0)));
      const total = scores.reduce((a, b) => a + b);
      for (const [t, score] of scores.entries()) sums[t] += score / total / places.length;
    }
    return sums;
  },
  textEmbeddings: ({ prompt: { rows, places } }) =>
    rows.filter((_, place) => !places.includes(place)).flatMap((row) => [...row]),
  hiddenStates: ({ llama, forwarded, visual }, { layer, parameters }) => {
    const rows = visual.map((place) => forwarded.layers.at(layer as number)!.written[place]);
    return rows.flatMap((row) => [...normalized(llama, row, parameters.norm)]);
  },
  questionStates: (there, { layer, parameters }) => {
    const rows = there.forwarded.layers.at(layer as number)!.written.slice(-questionOf(there));
    return rows.flatMap((row) => [...normalized(there.llama, row, parameters.norm)]);
  },
  keyMagnitude: ({ forwarded, visual }, { layer }) =>
    visual.map((place) => forwarded.layers.at(layer as number)!.keyMagnitudes[place]),
  questionKeyMagnitude: (there, { layer }) =>
    there.forwarded.layers.at(layer as number)!.keyMagnitudes.slice(-questionOf(there)),
  hiddenChange: ({ forwarded, visual }, { layer }) => {
    const { read, written } = forwarded.layers.at(layer as number)!;
    return visual.map((place) => Math.hypot(...written[place].map((value, d) => value - read[place][d])));
  },
};

/** Tokens behind the last visual one, in the prompt as it was. */
function questionOf({ prompt: { rows, places } }: PromptThere): number {
  return rows.length - 1 - places[places.length - 1];
}

function normalized({ norm, epsilon }: Llama, row: Float64Array, how: string): Float64Array {
  return how === 'final' ? normalize(row, norm, epsilon) : row;
}

/** Where the visual tokens stand in the prompt, and which are whose. */
function placesOf(ids: readonly number[], images: readonly Rows[]): { places: number[]; spans: Span[] } {
  const places: number[] = [];
  const spans: Span[] = [];
  let place = 0;
  for (const id of ids) {
    const length = id === IMAGE ? images[spans.length].length : 1;
    if (id === IMAGE) {
      spans.push({ start: places.length, length });
      for (let i = 0; i < length; i++) places.push(place + i);
    }
    place += length;
  }
  return { places, spans };
}
