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
import { forward, type Reduction, readLlama, type Llama } from './llama.js';
import { END, IMAGE, openPlainDecoding, type PlainDecoding, type Rows } from './plain-decoding.js';

/** A bundle, and the weights of its language model. */
export interface LanguageModel {
  readonly bundle: string;
  readonly llama: Llama;
  readonly plain: PlainDecoding;
  remove(): Promise<void>;
}

/**
 * How the language model's attention is written: by torch.onnx with grouped keys, by test/llama-graph.ts, and
 * as onnxruntime-genai does.
 */
export const FORMS = ['torch.onnx', 'written out', 'grouped', 'grouped, no positions'] as const;

const SIZES = { layers: 4, width: 24, heads: 4, kvHeads: 2, headDim: 16, inner: 48, vocabulary: 260 };
const GRAPHS: Readonly<Record<Exclude<(typeof FORMS)[number], 'torch.onnx'>, GraphOptions>> = {
  'written out': { attention: 'written out' },
  grouped: { attention: 'grouped' },
  'grouped, no positions': { attention: 'grouped', positions: false },
};

/** The random bundle with its language model in that form. */
export async function languageModel(form: (typeof FORMS)[number]): Promise<LanguageModel> {
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
 * site by site, on the attention of the whole prompt, and then every token anew from the first layer on.
 */
export async function referenceAnswer(
  { llama, plain }: Pick<LanguageModel, 'llama' | 'plain'>,
  ids: readonly number[],
  images: readonly Rows[],
  reducer: TokenReducer,
  maxNewTokens: number,
): Promise<ReferenceAnswer> {
  const rows = [...(await plain.prompt(ids, images))];
  const { places: all, spans } = placesOf(ids, images);
  const ofImage = (place: number): number =>
    spans.findIndex(({ start, length }) => all.indexOf(place) < start + length);
  const reductions: Reduction[] = [];
  let places: readonly number[] = all;
  for (const site of reducer.at as readonly (Site & { layer: number })[]) {
    const { attention, positions } = forward(llama, rows, reductions);
    const signals = requestsOf(reducer.requires, site).map((request): GivenSignal => {
      if (request.signal.name !== 'promptAttention') throw new TypeError(request.signal.name);
      const layer = request.layer as number;
      const columns = positions.at(layer)!;
      const last = columns.indexOf(places[places.length - 1]);
      const asking = attention.at(layer)!.slice(request.parameters.rows === 'last' ? -1 : last + 1);
      const mean = (place: number): number =>
        asking.reduce((sum, row) => sum + row[columns.indexOf(place)], 0) / asking.length;
      return { ...request, values: Float32Array.from(places, mean) };
    });
    let start = 0;
    const left = spans.map((_, image) => {
      const length = places.filter((place) => ofImage(place) === image).length;
      start += length;
      return { start: start - length, length };
    });
    const tokens = createTokens({ length: places.length, spans: left, signals });
    const plan = await planTokens(reducer, tokens, site);
    reductions.push({ layer: site.layer, places, plan });
    const before = places;
    places = Array.from(plan.anchors, (anchor) => before[anchor]).sort((a, b) => a - b);
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
