/** The language model: embeddings, and the decoder's graph in every form that calls have asked for. */
import { totalmem } from 'node:os';
import { identityPlan, resolveBudget, signalId, type ReductionPlan } from '@foveate/core';
import {
  describeModel,
  OnnxGraphError,
  pruneAtLayer,
  readModel,
  serializeModel,
  splitDecoder,
  type ModelDescription,
  type OnnxModel,
} from '@foveate/onnx-graph';
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import type { GraphName } from '../bundle/bundle.js';
import { BundleError, UnsupportedReducerError } from '../platform/errors.js';
import { loadOnnxRuntime } from '../platform/native-libraries.js';
import type { DecoderDimensions, LanguageRequest, SplitRequest, TopKRequest } from './protocol.js';
import { SingleGraphSequence, type DecoderSession, type Pruning, type Sequence } from './sequence.js';
import { floats, openSession, run, type GraphInMemory } from './sessions.js';
import { SplitSequence, type SplitSessions } from './split-sequence.js';

const PAST = 'past_key_values.';
const PRESENT = 'present.';
const INPUTS = ['inputs_embeds', 'attention_mask', 'position_ids', 'num_logits_to_keep', 'use_cache_branch'];
/** Weights of all open forms of the decoder together: beyond this share of the machine's memory those used longest ago are closed. */
const MEMORY_SHARE = 0.25;

/** Sessions of the decoder in one form. */
interface Form {
  readonly sessions: readonly InferenceSession[];
}

/** The decoder that drops tokens. */
interface PrunedForm extends Form {
  readonly names: Pruning['names'];
}

/** The decoder in two graphs. */
interface SplitForm extends Form, SplitSessions {}

/** The graphs of the language model. */
export class Decoder {
  readonly dimensions: DecoderDimensions;
  readonly #file: string;
  readonly #threads: number;
  readonly #weightBytes: number;
  readonly #embedding: InferenceSession;
  readonly #tensor: typeof Tensor;
  /** Open forms, the one used last at the end. */
  readonly #forms = new Map<string, Form>();

  private constructor(
    file: string,
    threads: number,
    description: ModelDescription,
    embedding: InferenceSession,
    tensor: typeof Tensor,
  ) {
    this.#file = file;
    this.#threads = threads;
    this.#embedding = embedding;
    this.#tensor = tensor;
    this.#weightBytes = description.weightBytes;
    this.dimensions = readDimensions(description);
  }

  /**
   * Opens the embeddings, and the decoder in the form that `language` needs.
   * @throws BundleError, PlatformError, UnsupportedReducerError
   */
  static async open(
    graphs: Readonly<Record<GraphName, string>>,
    threads: number,
    language: LanguageRequest | null,
  ): Promise<Decoder> {
    const { Tensor } = await loadOnnxRuntime();
    const file = graphs.decoder_model_merged;
    const description = describeModel(patching(() => readModel(file)));
    const embedding = await openSession(graphs.embed_tokens, graphs.embed_tokens, threads);
    const decoder = new Decoder(file, threads, description, embedding, Tensor);
    if (language) {
      decoder.check(language);
      await (language.route === 'graph' ? decoder.#pruned(language) : decoder.#split(language));
    } else await decoder.#whole();
    return decoder;
  }

  /** @throws UnsupportedReducerError where the model has no such layer */
  check({ reducer, layer }: LanguageRequest): void {
    const { layers } = this.dimensions;
    if (layer < layers) return;
    throw new UnsupportedReducerError(
      `${reducer} reduces tokens before layer ${layer}; this language model has the layers 0 to ${layers - 1}. Choose a layer from 1 to ${layers - 1}.`,
    );
  }

  /** Embeddings [ids.length, D] of token ids. */
  async embed(ids: readonly number[]): Promise<Float32Array> {
    const input = new this.#tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]);
    return floats(await run(this.#embedding, { input_ids: input }), 'inputs_embeds');
  }

  /**
   * A new, empty sequence, whose prompt will have so many visual tokens. Where all of them stay, the graph is the bundle's own.
   * @throws BundleError where the decoder cannot be patched
   */
  async start(language: LanguageRequest | null, visualTokens: number): Promise<Sequence> {
    let unpruned: ReductionPlan | null = null;
    if (language?.route === 'split' && visualTokens > 0) {
      const { layer, signals } = language;
      const decoder = { tensor: this.#tensor, dimensions: this.dimensions };
      return new SplitSequence(decoder, await this.#split(language), layer, signals);
    }
    if (language?.route === 'graph' && visualTokens > 0) {
      const { count, warnings } = resolveBudget(language.budget, visualTokens);
      if (count < visualTokens) {
        const { sessions, names } = await this.#pruned(language);
        const pruning = { layer: language.layer, names, count, warnings };
        return new SingleGraphSequence(this.#parts(sessions[0]), pruning);
      }
      unpruned = identityPlan(visualTokens, { warnings });
    }
    const { sessions } = await this.#whole();
    return new SingleGraphSequence(this.#parts(sessions[0]), null, unpruned);
  }

  #parts(session: InferenceSession): DecoderSession {
    return { session, tensor: this.#tensor, dimensions: this.dimensions };
  }

  /** The bundle's own graph. */
  async #whole(): Promise<Form> {
    return this.#form('whole', async () => ({ sessions: [await this.#session(this.#file, this.#file)] }));
  }

  async #pruned({ layer, rows }: TopKRequest): Promise<PrunedForm> {
    return this.#form(`pruned ${layer} ${rows}`, async () => {
      const { model, ...names } = patching(() => pruneAtLayer(readModel(this.#file), { layer, rows }));
      const name = `${this.#file} pruned at layer ${layer}`;
      return { sessions: [await this.#session(serializeModel(model), name)], names };
    });
  }

  async #split({ layer, signals }: SplitRequest): Promise<SplitForm> {
    return this.#form(`split ${layer} ${signals.map(signalId).join(' ')}`, async () => {
      const { lower, upper, ...names } = patching(() =>
        splitDecoder(readModel(this.#file), { layer, signals }),
      );
      const open = async (part: OnnxModel, name: string): Promise<InferenceSession> =>
        this.#session(serializeModel(part), `the ${name} part of ${this.#file}, cut before layer ${layer}`);
      const parts = { lower: await open(lower, 'lower'), upper: await open(upper, 'upper') };
      return { ...parts, names, sessions: Object.values(parts) };
    });
  }

  async #session(graph: string | GraphInMemory, name: string): Promise<InferenceSession> {
    return openSession(graph, name, this.#threads);
  }

  /** The form that `id` names: each has the weights in memory once more, so it is opened late, and closed where they are too many. */
  async #form<T extends Form>(id: string, open: () => Promise<T>): Promise<T> {
    const forms = this.#forms;
    let form = forms.get(id) as T | undefined; // an id stands for one kind of form
    if (!form) {
      const room = Math.max(1, Math.floor((totalmem() * MEMORY_SHARE) / this.#weightBytes));
      for (const [oldest, { sessions }] of [...forms].slice(0, Math.max(0, forms.size + 1 - room))) {
        forms.delete(oldest);
        for (const session of sessions) await session.release();
      }
      form = await open();
    }
    forms.delete(id);
    forms.set(id, form);
    return form;
  }
}

/** Errors of the graph's structure are the bundle's. @throws BundleError */
function patching<T>(patch: () => T): T {
  try {
    return patch();
  } catch (cause) {
    if (!OnnxGraphError.isInstance(cause)) throw cause;
    throw new BundleError(`The decoder cannot be read or patched. ${cause.message}`, { cause });
  }
}

/**
 * What the decoder's inputs say of it.
 * @throws BundleError where there are inputs that this runner cannot give, or no cache
 */
function readDimensions({ inputs, outputs }: ModelDescription): DecoderDimensions {
  const inputNames = inputs.map(({ name }) => name);
  const outputNames = outputs.map(({ name }) => name);
  const unknown = inputNames.find((name) => !name.startsWith(PAST) && !INPUTS.includes(name));
  if (unknown !== undefined)
    throw new BundleError(
      `decoder_model_merged needs the input ${unknown}, which this runner does not know.`,
    );
  const caches = inputs.filter(({ name }) => name.startsWith(PAST));
  const names = Array.from({ length: Math.ceil(caches.length / 2) }, (_, layer) => [
    `${layer}.key`,
    `${layer}.value`,
  ]).flat();
  const missing = [
    ...['inputs_embeds', ...names.map((name) => PAST + name)].filter((name) => !inputNames.includes(name)),
    ...['logits', ...names.map((name) => PRESENT + name)].filter((name) => !outputNames.includes(name)),
  ];
  const first = caches.at(0);
  const [, kvHeads, , headDim] = first?.shape ?? [];
  const type = first?.type;
  if (
    missing.length > 0 ||
    typeof kvHeads !== 'number' ||
    typeof headDim !== 'number' ||
    (type !== 'float32' && type !== 'float16')
  ) {
    throw new BundleError(
      `decoder_model_merged is no decoder with a cache: it has ${missing.length > 0 ? `no ${missing[0]}` : 'no past_key_values.{layer}.{key,value} [batch, heads, length, size] of float32 or float16'}.`,
    );
  }
  return { layers: caches.length / 2, kvHeads, headDim, kvBytes: type === 'float32' ? 4 : 2 };
}
