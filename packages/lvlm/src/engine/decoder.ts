/** The language model: embeddings, and the decoder's graph in every form that calls have asked for. */
import { identityPlan, signalId, type Calibration } from '@foveate/core';
import {
  biasDecoder,
  describeModel,
  OnnxGraphError,
  pruneDecoder,
  serializeModel,
  splitDecoder,
  type BiasedDecoder,
  type DecoderCut,
  type DecoderPruning,
  type OnnxModel,
  type DecoderSignalRequest,
  type PromptRows,
  type PrunedDecoder,
  type SplitDecoder,
} from '@foveate/onnx-graph';
import type { InferenceSession } from 'onnxruntime-common';
import { BundleError } from '../platform/errors.js';
import type { FormsRequest, InnerSite, ModelDimensions } from './api.js';
import { CalibratedSequence } from './calibrated-sequence.js';
import { rotaryFrequencies, type SizedTokens } from './calibration.js';
import { checkPatchable, readDimensions } from './decoder-dimensions.js';
import { CACHE_BRANCH, checkCacheBranch } from './cache-branch.js';
import type { Form, Forms } from './forms.js';
import { isRuled, resolveInTurn, type RuledSite } from './rules.js';
import { SingleGraphSequence, type Past, type Prunings, type Sequence } from './sequence.js';
import { floats, run, type Sessions } from './sessions.js';
import { SplitSequence, type PartSession } from './split-sequence.js';

/** Tokens that a merged decoder is checked on. */
const PROBE = 8;

/** The decoder in one graph. */
interface SingleForm extends Form {
  readonly session: InferenceSession;
}

/** The decoder that drops tokens. */
interface PrunedForm extends SingleForm {
  readonly names: Omit<PrunedDecoder, 'model'>;
}

/** The decoder whose scores take biases. */
interface BiasedForm extends SingleForm {
  readonly names: Omit<BiasedDecoder, 'model'>;
}

/** The decoder in several graphs. */
interface SplitForm extends Form {
  readonly parts: readonly PartSession[];
}

/** What a call needs of the decoder. */
export type DecoderRequest = Pick<FormsRequest, 'language' | 'calibration'>;

/** The graphs of the language model. */
export class Decoder {
  readonly dimensions: ModelDimensions;
  readonly #sessions: Sessions;
  readonly #forms: Forms;
  readonly #file: string;
  readonly #model: OnnxModel;
  readonly #weightBytes: number;
  readonly #embedding: InferenceSession;
  readonly #rotaryBase: number;
  /** Whether it is not merged, or its branch for a filled cache was checked. */
  #branchRuns: boolean;

  private constructor(
    sessions: Sessions,
    forms: Forms,
    file: string,
    model: OnnxModel,
    embedding: InferenceSession,
    rotaryBase: number,
  ) {
    const description = describeModel(model);
    this.#sessions = sessions;
    this.#forms = forms;
    this.#file = file;
    this.#model = model;
    this.#weightBytes = description.weightBytes;
    this.#embedding = embedding;
    this.#rotaryBase = rotaryBase;
    this.#branchRuns = !description.inputs.some(({ name }) => name === CACHE_BRANCH);
    this.dimensions = readDimensions(description);
  }

  /**
   * Opens the embeddings.
   * @param file path of the decoder's graph
   * @param model that graph
   * @param embeddings path of the embeddings' graph
   * @param rotaryBase of its positions
   * @throws BundleError, PlatformError
   */
  static async open(
    sessions: Sessions,
    forms: Forms,
    given: { file: string; model: OnnxModel; embeddings: string; rotaryBase: number },
  ): Promise<Decoder> {
    const { file, model, embeddings, rotaryBase } = given;
    const embedding = await sessions.open(embeddings, embeddings);
    return new Decoder(sessions, forms, file, model, embedding, rotaryBase);
  }

  /** Opens the form that calls of a kind need. @throws BundleError where the decoder cannot be patched */
  async prepare({ language: sites, calibration }: DecoderRequest): Promise<void> {
    if (calibration) await this.#biased();
    else if (sites.length === 0) await this.#whole();
    else await (sites.every(isRuled) ? this.#pruned(sites) : this.#split(sites));
  }

  /** Whether several tokens can be run behind others, as the next turn of a chat is. */
  async runsBehindOthers(): Promise<boolean> {
    try {
      await this.#checkBranch();
      return true;
    } catch (error) {
      if (BundleError.isInstance(error)) return false;
      throw error;
    }
  }

  /** Looks whether calls of a kind can be prepared, and opens nothing. @throws as {@link prepare} */
  check({ language: sites, calibration }: DecoderRequest): void {
    if (sites.length === 0 && !calibration) return;
    checkPatchable(this.dimensions);
    if (calibration) patching(() => biasDecoder(this.#model));
    else if (sites.every(isRuled)) this.#pruning(sites);
    else this.#splitting(sites);
  }

  /** Embeddings [tokenIds.length, D]. */
  async embed(tokenIds: readonly number[]): Promise<Float32Array> {
    const { Tensor } = this.#sessions;
    const input = new Tensor('int64', BigInt64Array.from(tokenIds, BigInt), [1, tokenIds.length]);
    return floats(await run(this.#embedding, { input_ids: input }), 'inputs_embeds');
  }

  /**
   * A new sequence, whose prompt has so many visual tokens. Where all of them stay, the graph is the bundle's
   * own.
   * @param past what was run of the prompt in a sequence of the same sites; null: nothing
   * @throws BundleError where the decoder cannot be patched
   */
  async start(sites: readonly InnerSite[], visualTokens: number, past: Past | null): Promise<Sequence> {
    const decoder = { tensor: this.#sessions.Tensor, dimensions: this.dimensions };
    if (visualTokens === 0 || sites.every(isRuled)) {
      const counts = resolveInTurn(
        visualTokens === 0 ? [] : sites.flatMap(({ rule }) => rule ?? []),
        visualTokens,
      );
      const unpruned = counts.map(({ warnings }) => identityPlan(visualTokens, { warnings }));
      if (counts.every(({ count }) => count === visualTokens)) {
        const { session } = await this.#whole();
        return new SingleGraphSequence({ ...decoder, session }, null, unpruned, past);
      }
      const { session, names } = await this.#pruned(sites.filter(isRuled));
      return new SingleGraphSequence({ ...decoder, session }, prunings(names, sites, counts), unpruned, past);
    }
    const { parts } = await this.#split(sites);
    return new SplitSequence(decoder, parts, sites, past);
  }

  /**
   * A new sequence whose visual tokens have sizes.
   * @throws BundleError where the decoder cannot be patched
   */
  async startCalibrated(calibration: Calibration, tokens: SizedTokens): Promise<Sequence> {
    const { session, names } = await this.#biased();
    const decoder = { tensor: this.#sessions.Tensor, dimensions: this.dimensions, session, names };
    const frequencies = rotaryFrequencies(this.#rotaryBase, this.dimensions.headDim);
    return new CalibratedSequence({ ...decoder, frequencies }, calibration, tokens);
  }

  /** The bundle's own graph. */
  #whole(): Promise<SingleForm> {
    return this.#form('decoder', async () => {
      const session = await this.#sessions.open(serializeModel(this.#model), this.#file);
      return { session, ...this.#formOf([session]) };
    });
  }

  /**
   * To be called before the decoder is patched, and before its form is asked for: it may open another.
   * @throws UnsupportedReducerError where layers keep more than keys and values; BundleError where what a patch
   * leaves of a merged decoder cannot run prompts
   */
  async #checkPatchable(): Promise<void> {
    checkPatchable(this.dimensions);
    await this.#checkBranch();
  }

  /** @throws BundleError where a merged decoder's branch for a filled cache is for one token alone */
  async #checkBranch(): Promise<void> {
    if (this.#branchRuns) return;
    const { session } = await this.#whole();
    const decoder = { tensor: this.#sessions.Tensor, dimensions: this.dimensions, session };
    const ids = Array.from({ length: PROBE }, (_, id) => id);
    await checkCacheBranch(decoder, await this.embed(ids), PROBE);
    this.#branchRuns = true;
  }

  #pruning(sites: readonly RuledSite[]): PrunedDecoder {
    return patching(() => pruneDecoder(this.#model, sites.map(pruningOf)));
  }

  async #pruned(sites: readonly RuledSite[]): Promise<PrunedForm> {
    await this.#checkPatchable();
    const where = sites
      .map(pruningOf)
      .map(({ layer, rows }) => `${layer} ${rows}`)
      .join(', ');
    return this.#form(`decoder pruned ${where}`, async () => {
      const { model, ...names } = this.#pruning(sites);
      const session = await this.#sessions.open(serializeModel(model), `${this.#file} pruned at ${where}`);
      return { session, names, ...this.#formOf([session]) };
    });
  }

  async #biased(): Promise<BiasedForm> {
    await this.#checkPatchable();
    return this.#form('decoder biased', async () => {
      const { model, ...names } = patching(() => biasDecoder(this.#model));
      const session = await this.#sessions.open(serializeModel(model), `${this.#file} with biases`);
      return { session, names, ...this.#formOf([session]) };
    });
  }

  #splitting(sites: readonly InnerSite[]): SplitDecoder {
    return patching(() => splitDecoder(this.#model, sites.map(cutOf)));
  }

  async #split(sites: readonly InnerSite[]): Promise<SplitForm> {
    await this.#checkPatchable();
    const id = sites.map(({ layer, signals }) => `${layer} ${signals.map(signalId).join(' ')}`).join(', ');
    return this.#form(`decoder split ${id}`, async () => {
      const parts: PartSession[] = [];
      for (const { model, ...part } of this.#splitting(sites).parts) {
        const name = `${this.#file}, layers ${part.first} to ${part.end - 1}`;
        parts.push({ ...part, session: await this.#sessions.open(serializeModel(model), name) });
      }
      return { parts, ...this.#formOf(parts.map(({ session }) => session)) };
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

function prunings(
  names: PrunedForm['names'],
  sites: readonly InnerSite[],
  counts: ReturnType<typeof resolveInTurn>,
): Prunings {
  return {
    visualTokens: names.visualTokens,
    sites: counts.map((resolved, i) => ({ ...resolved, layer: sites[i].layer, names: names.prunings[i] })),
  };
}

function pruningOf({ layer, rule }: RuledSite): DecoderPruning {
  return { layer, rows: rowsOf(rule.score.parameters) };
}

function cutOf({ layer, signals }: InnerSite): DecoderCut {
  const read = signals.map(({ signal, layer: of, parameters }): DecoderSignalRequest => ({
    ...parameters,
    name: signal.name,
    layer: of as number,
  }));
  return { layer, signals: read };
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
