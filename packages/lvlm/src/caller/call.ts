/**
 * One call, as the engine sees the caller's thread: its images are made ready, its reducers asked, its tokens
 * passed on.
 */
import { planChain, type ReductionPlan, type TensorBackend, type TokenSource } from '@foveate/core';
import type {
  CallerApi,
  CropTokens,
  Features,
  PreparedImage,
  PromptTokens,
  ReducedCrop,
} from '../engine/api.js';
import { DisposedError, WorkerError } from '../platform/errors.js';
import { reduceOnBackend } from './backend-reduction.js';
import { askAmong, askedTokens, cropTokens, withoutPadding, type AskableEngine } from './crop-tokens.js';
import { joinTokens, plansByCrop } from './crops-together.js';
import type { LayerReducers, ReductionChain } from './reduction-chain.js';

/** [images][crops] The plans on the features, in the order of the chain; nothing where none acts there. */
export type FeaturePlans = readonly (readonly (readonly ReductionPlan[])[])[];

/** What a call is made of. */
interface CallParts {
  readonly chain: ReductionChain;
  readonly images: number;
  /** Of images that earlier turns of a chat read. [images][crops], see {@link Call.plans} */
  readonly plans: FeaturePlans;
  readonly backend: TensorBackend<unknown> | null;
  readonly ask: AskableEngine;
  /** Runs what reducers do. */
  readonly plan: <T>(work: () => Promise<T>) => Promise<T>;
  readonly prepareImage: (index: number) => Promise<PreparedImage>;
  readonly onToken: (tokenId: number) => void;
}

/** One call. Whatever fails on this side ends it, and is what the call fails with. */
export class Call implements CallerApi {
  /** Set to 1 to end the call between two runs of the model. */
  readonly stop: Int32Array = new Int32Array(new SharedArrayBuffer(4));
  /** Milliseconds spent on images. */
  imageMs = 0;
  readonly #parts: CallParts;
  readonly #hashes: string[] = [];
  readonly #plans: (readonly ReductionPlan[])[][];
  readonly #ended: Promise<never>;
  #end: (reason: unknown) => void = () => undefined;
  #failure: { readonly cause: unknown } | null = null;

  constructor(parts: CallParts) {
    this.#parts = parts;
    this.#plans = Array.from({ length: parts.images }, (_, image) => [...(parts.plans.at(image) ?? [])]);
    this.#ended = new Promise((_, reject) => (this.#end = reject));
    this.#ended.catch(() => undefined);
  }

  /** Ends the call: whatever the engine waits for is over. */
  readonly end = (cause: unknown): void => {
    this.#failure ??= { cause };
    Atomics.store(this.stop, 0, 1);
    this.#end(this.#failure.cause);
  };

  /** @throws why the call ended before its time */
  throwIfEnded(): void {
    if (this.#failure) throw this.#failure.cause;
  }

  get plans(): FeaturePlans {
    return this.#plans;
  }

  image(index: number): Promise<PreparedImage> {
    return this.#answer(async () => {
      const start = performance.now();
      const image = await this.#parts.prepareImage(index);
      this.imageMs += performance.now() - start;
      this.#hashes[index] = image.imageHash;
      return image;
    });
  }

  planCrops(messages: readonly CropTokens[]): Promise<readonly (readonly ReductionPlan[])[]> {
    return this.#plan(async () => {
      const { chain } = this.#parts;
      const [{ site }] = messages;
      const acting = actingAt(site, chain);
      const crops = messages.map((one, among) => withoutPadding(this.#tokensOf(one, among), one));
      const made = await planChain(acting.reducers, joinTokens(crops), site, chain.layers);
      const lengths = crops.map(({ length }) => length);
      const plans = plansByCrop(made, lengths, acting.reducers);
      if (site.layer === 'features') {
        for (const [i, { image, crop }] of messages.entries()) this.#plans[image][crop] = plans[i];
      }
      return plans;
    });
  }

  reduceCrop(message: CropTokens, features: Features): Promise<ReducedCrop> {
    return this.#plan(async () => {
      const { chain, backend } = this.#parts;
      if (!backend) throw new DisposedError(); // features are handed out to a backend only
      const { left, grid, classToken } = message;
      const crop = { tokens: this.#tokensOf(message, 0), features, left, grid, classToken };
      const reduced = await reduceOnBackend(backend, chain.features, crop, chain.layers);
      this.#plans[message.image][message.crop] = reduced.plans;
      return reduced;
    });
  }

  planPrompt({ layer, spans, places, entered, signals }: PromptTokens): Promise<readonly ReductionPlan[]> {
    return this.#plan(async () => {
      const { chain, ask } = this.#parts;
      const layout = {
        length: places.length,
        spans,
        entered,
        places: Uint32Array.from(places),
        imageHash: this.#hashes.join(' '),
      };
      const tokens = askedTokens(layout, signals, askAmong(ask, 0));
      const { reducers, site } = actingBefore(layer, chain.language);
      return planChain(reducers, tokens, site, chain.layers);
    });
  }

  token(tokenId: number): void {
    if (this.#failure) return;
    try {
      this.#parts.onToken(tokenId);
    } catch (cause) {
      this.end(cause);
    }
  }

  /** @param among number of the crop among those that are planned together */
  #tokensOf(message: CropTokens, among: number): TokenSource {
    return cropTokens(message, this.#hashes[message.image], askAmong(this.#parts.ask, among));
  }

  #plan<T>(work: () => Promise<T>): Promise<T> {
    return this.#answer(() => this.#parts.plan(work));
  }

  /** Answers the engine, unless the call ends before; what fails ends it. */
  async #answer<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await Promise.race([work(), this.#ended]);
    } catch (cause) {
      this.end(cause);
      throw cause;
    }
  }
}

/** The reducers at a site of the encoder. */
function actingAt(
  { layer, within }: CropTokens['site'],
  { merging, features, encoder }: ReductionChain,
): Pick<LayerReducers, 'reducers'> {
  if (layer === 'features') return features;
  return within ? merging : actingBefore(layer, encoder);
}

/** The reducers before a layer; the engine asks only where there are some. */
function actingBefore(layer: number, sites: readonly LayerReducers[]): LayerReducers {
  const acting = sites.find(({ site }) => site.layer === layer);
  if (!acting) throw new WorkerError(`The engine asked for plans before layer ${layer}, where nothing acts.`);
  return acting;
}
