/** From the pixels of a picture to the rows that the language model reads: encode, plan, apply, project. */
import {
  applyPlan,
  atFeatures,
  createTokens,
  features as featuresSignal,
  nearestRowsWith,
  planChain,
  projectedFeatures,
  signalId,
  similarityWith,
  textEmbeddings,
  type GivenSignal,
  type ReductionPlan,
  type SignalRequest,
  type TokenSource,
} from '@foveate/core';
import type { Tensor } from '@huggingface/transformers';
import type { Chain } from './chain.js';
import type { EncodedPicture, Encoder, Rows } from './encoder.js';
import { UnsupportedCallError } from './errors.js';
import type { Llava } from './llava.js';

/** Names an image for whatever is random, from `pixel_values` [1, 3, height, width]. */
export type ImageHash = (pixelValues: Tensor) => string | Promise<string>;

/** What reads pictures. */
export interface PictureReader {
  readonly llava: Llava;
  readonly chain: Chain;
  readonly encoder: Encoder;
  readonly imageHash: ImageHash;
}

/** A picture in a prompt. */
interface PictureInPrompt {
  /** [1, 3, height, width] */
  readonly pixels: Tensor;
  /** [T, D] embeddings of the text around it. */
  readonly text: Float32Array;
  /** How many image tokens the prompt has for it. */
  readonly placeholders: number;
}

/** A picture, reduced. */
export interface ReducedPicture {
  /** [M, D] in the place of the picture's tokens. */
  readonly rows: Rows;
  /** One a reducer, in their order. */
  readonly plans: readonly ReductionPlan[];
}

/**
 * Encodes and reduces a picture.
 * @throws UnsupportedCallError where the prompt has another number of image tokens; what a reducer throws
 */
export async function readPicture(
  reader: PictureReader,
  { pixels, text, placeholders }: PictureInPrompt,
): Promise<ReducedPicture> {
  const { llava, chain, encoder } = reader;
  const encoded = await encoder.encode(pixels);
  const { length } = encoded.features;
  if (length !== placeholders) {
    throw new UnsupportedCallError(
      `The prompt has ${placeholders} image tokens; its picture has ${length} visual tokens. The processor of the model writes the right number.`,
    );
  }
  const tokens = await tokensOf(reader, pixels, encoded, text);
  const plans = await planChain(chain.reducers, tokens, atFeatures, llava.layers);
  const reduced = plans.reduce<Rows>(
    ({ data }, plan) => ({ data: applyPlan(plan, data), length: plan.outputLength }),
    encoded.features,
  );
  return { rows: await encoder.project(reduced), plans };
}

/** The tokens as reducers see them. */
async function tokensOf(
  { llava, chain, encoder, imageHash }: PictureReader,
  pixels: Tensor,
  encoded: EncodedPicture,
  text: Float32Array,
): Promise<TokenSource> {
  const { length } = encoded.features;
  const grid = gridOf(pixels, llava.patchSize, length);
  const signals = await givenSignals(chain.requests, encoded, text, encoder);
  const layout = { length, ...(grid && { grid }), imageHash: await imageHash(pixels) };
  const tokens = createTokens({ ...layout, signals });
  return {
    ...tokens,
    nearest: async (rows, of, k) =>
      nearestRowsWith(encoder.products, await tokens.signal(rows), length, of, k),
    similarity: async (rows, to, measure) =>
      similarityWith(encoder.products, await tokens.signal(rows), length, to, measure),
    products: encoder.products,
  };
}

/** Row-major patches, where they fill a grid. */
function gridOf(
  { dims }: Tensor,
  patchSize: number,
  length: number,
): { rows: number; columns: number } | undefined {
  const [rows, columns] = dims.slice(-2).map((side) => Math.floor(side / patchSize));
  return rows * columns === length ? { rows, columns } : undefined;
}

/** What reducers read: of the encoder, and of what is around it where they ask for that. */
async function givenSignals(
  requests: readonly SignalRequest[],
  { features, signals }: EncodedPicture,
  text: Float32Array,
  encoder: Encoder,
): Promise<readonly GivenSignal[]> {
  const around = new Map<string, () => Float32Array | Promise<Float32Array>>([
    [signalId(featuresSignal()), () => features.data],
    [signalId(projectedFeatures()), async () => (await encoder.project(features)).data],
    [signalId(textEmbeddings()), () => text],
  ]);
  const given = requests.map(async (request): Promise<GivenSignal[]> => {
    const values = await around.get(signalId(request))?.();
    return values ? [{ ...request, values }] : [];
  });
  return [...signals, ...(await Promise.all(given)).flat()];
}

/** SHA-256 of size and pixels: the same for the same picture behind the same preprocessing. */
export async function hashPixels({ dims, data }: Tensor): Promise<string> {
  const { buffer, byteOffset, byteLength } = data as Float32Array;
  const size = new TextEncoder().encode(`${dims.slice(-2).join('x')}:`);
  const bytes = new Uint8Array(size.length + byteLength);
  bytes.set(size);
  bytes.set(new Uint8Array(buffer, byteOffset, byteLength), size.length);
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
