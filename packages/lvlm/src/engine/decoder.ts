/** The language model: embeddings, and the decoder's graph in every form that calls have asked for. */
import { identityPlan, resolveBudget, signalId, type ReductionPlan } from '@foveate/core';
import {
  describeModel,
  OnnxGraphError,
  pruneAtLayer,
  serializeModel,
  splitDecoder,
  type ModelDescription,
  type OnnxModel,
  type PromptRows,
} from '@foveate/onnx-graph';
import type { InferenceSession } from 'onnxruntime-common';
import { BundleError } from '../platform/errors.js';
import type { LanguageRequest, ModelDimensions } from './api.js';
import type { Form, Forms } from './forms.js';
import { SingleGraphSequence, type DecoderSession, type Pruning, type Sequence } from './sequence.js';
import { floats, run, type Sessions } from './sessions.js';
import { SplitSequence, type SplitSessions } from './split-sequence.js';

const PAST = 'past_key_values.';
const PRESENT = 'present.';
const INPUTS = ['inputs_embeds', 'attention_mask', 'position_ids', 'num_logits_to_keep', 'use_cache_branch'];

type Rule = NonNullable<LanguageRequest['rule']>;

/** The decoder in one graph. */
interface SingleForm extends Form {
  readonly session: InferenceSession;
}

/** The decoder that drops tokens. */
interface PrunedForm extends SingleForm {
  readonly names: Pruning['names'];
}

/** The decoder in two graphs. */
interface SplitForm extends Form, SplitSessions {}

/** The graphs of the language model. */
export class Decoder {
  readonly dimensions: ModelDimensions;
  readonly #sessions: Sessions;
  readonly #forms: Forms;
  readonly #file: string;
  readonly #model: OnnxModel;
  readonly #weightBytes: number;
  readonly #embedding: InferenceSession;

  private constructor(
    sessions: Sessions,
    forms: Forms,
    file: string,
    model: OnnxModel,
    embedding: InferenceSession,
  ) {
    const description = describeModel(model);
    this.#sessions = sessions;
    this.#forms = forms;
    this.#file = file;
    this.#model = model;
    this.#weightBytes = description.weightBytes;
    this.#embedding = embedding;
    this.dimensions = readDimensions(description);
  }

  /**
   * Opens the embeddings.
   * @param file path of the decoder's graph
   * @param model that graph
   * @param embeddings path of the embeddings' graph
   * @throws BundleError, PlatformError
   */
  static async open(
    sessions: Sessions,
    forms: Forms,
    { file, model, embeddings }: { file: string; model: OnnxModel; embeddings: string },
  ): Promise<Decoder> {
    return new Decoder(sessions, forms, file, model, await sessions.open(embeddings, embeddings));
  }

  /** Opens the form that calls of a kind need. @throws BundleError where the decoder cannot be patched */
  async prepare(language: LanguageRequest | null): Promise<void> {
    if (!language) await this.#whole();
    else await (language.rule ? this.#pruned(language.layer, language.rule) : this.#split(language));
  }

  /** Embeddings [tokenIds.length, D]. */
  async embed(tokenIds: readonly number[]): Promise<Float32Array> {
    const { Tensor } = this.#sessions;
    const input = new Tensor('int64', BigInt64Array.from(tokenIds, BigInt), [1, tokenIds.length]);
    return floats(await run(this.#embedding, { input_ids: input }), 'inputs_embeds');
  }

  /**
   * A new, empty sequence, whose prompt will have so many visual tokens. Where all of them stay, the graph is the bundle's own.
   * @throws BundleError where the decoder cannot be patched
   */
  async start(language: LanguageRequest | null, visualTokens: number): Promise<Sequence> {
    let unpruned: ReductionPlan | null = null;
    if (language && visualTokens > 0) {
      const { layer, rule } = language;
      if (!rule) return new SplitSequence(this.#parts(), await this.#split(language), language);
      const { count, warnings } = resolveBudget(rule.budget, visualTokens);
      if (count < visualTokens) {
        const { session, names } = await this.#pruned(layer, rule);
        const pruning = { layer, names, count, warnings };
        return new SingleGraphSequence({ ...this.#parts(), session }, pruning);
      }
      unpruned = identityPlan(visualTokens, { warnings });
    }
    const { session } = await this.#whole();
    return new SingleGraphSequence({ ...this.#parts(), session }, null, unpruned);
  }

  #parts(): Omit<DecoderSession, 'session'> {
    return { tensor: this.#sessions.Tensor, dimensions: this.dimensions };
  }

  /** The bundle's own graph. */
  #whole(): Promise<SingleForm> {
    return this.#form('decoder', async () => {
      const session = await this.#sessions.open(this.#file, this.#file);
      return { session, ...this.#formOf([session]) };
    });
  }

  #pruned(layer: number, { score }: Rule): Promise<PrunedForm> {
    const rows = rowsOf(score.parameters);
    return this.#form(`decoder pruned ${layer} ${rows}`, async () => {
      const { model, ...names } = patching(() => pruneAtLayer(this.#model, { layer, rows }));
      const session = await this.#sessions.open(
        serializeModel(model),
        `${this.#file} pruned at layer ${layer}`,
      );
      return { session, names, ...this.#formOf([session]) };
    });
  }

  #split({ layer, signals }: LanguageRequest): Promise<SplitForm> {
    return this.#form(`decoder split ${layer} ${signals.map(signalId).join(' ')}`, async () => {
      const wanted = signals.map((request) => ({
        layer: request.layer as number,
        rows: rowsOf(request.parameters),
      }));
      const { lower, upper, ...names } = patching(() =>
        splitDecoder(this.#model, { layer, signals: wanted }),
      );
      const open = (part: OnnxModel, name: string): Promise<InferenceSession> =>
        this.#sessions.open(
          serializeModel(part),
          `the ${name} part of ${this.#file}, cut before layer ${layer}`,
        );
      const parts = { lower: await open(lower, 'lower'), upper: await open(upper, 'upper') };
      return { ...parts, names, ...this.#formOf(Object.values(parts)) };
    });
  }

  #formOf(opened: readonly InferenceSession[]): Form {
    return {
      weightBytes: this.#weightBytes,
      release: async () => {
        for (const session of opened) await session.release();
      },
    };
  }

  #form<T extends Form>(name: string, open: () => Promise<T>): Promise<T> {
    return this.#forms.get(name, this.#weightBytes, open);
  }
}

function rowsOf({ rows }: Readonly<Record<string, string>>): PromptRows {
  return rows === 'mean' ? 'mean' : 'last';
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
function readDimensions({ inputs, outputs }: ModelDescription): ModelDimensions {
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
