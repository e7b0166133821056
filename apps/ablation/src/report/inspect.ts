/**
 * Asks the chosen questions once more, for what a run's folder does not hold: which tokens were kept, and
 * what the encoder attended to.
 */
import {
  atFeatures,
  attentionShare,
  defineReducer,
  FoveateError,
  identityPlan,
  type TokenReducer,
} from '@foveate/core';
import { fingerprintBundle, ResultsError, type Question, type Summary } from '@foveate/eval';
import { significance, significanceSignals } from '@foveate/fopru-significance';
import { Lvlm, readImage, type CropReport, type RawImage } from '@foveate/lvlm';
import { registry } from '../registry.js';
import { createReducers } from '../spec.js';
import { lightOf, mergedInto } from './light.js';
import type { AnswersByReducer } from './run-folder.js';

/** One chosen question. */
export interface Inspection {
  readonly question: Question;
  /** Where the encoder's tokens lie in the image; null where they fill no grid. */
  readonly place: Place | null;
  /**
   * FoPru's significance of each token, and of each encoder layer the share of attention that its top 25 %
   * hold; null where this encoder does not tell.
   */
  readonly attention: Attention | null;
  readonly methods: readonly MethodInspection[];
}

/** Which part of the upright image the grid of tokens covers. */
export interface Place {
  readonly grid: NonNullable<CropReport['grid']>;
  readonly region: NonNullable<CropReport['region']>;
}

interface Attention {
  /** [tokens] Eq. 4 of the paper. */
  readonly significance: Float32Array;
  /** [layers present in the graph] The signal `attentionShare`. */
  readonly share: Float32Array;
}

/** What one method made of one question. */
export interface MethodInspection {
  /** The row's SPEC. */
  readonly reducer: string;
  /** The answer of the run, and whether it was right. */
  readonly text: string;
  readonly correct: boolean;
  /** The answer now, where it is another one: what is drawn is then not what led to the run's answer. */
  readonly textNow: string | null;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** [inputTokens] See {@link lightOf}. */
  readonly light: readonly number[];
  /** [inputTokens] See {@link mergedInto}. */
  readonly merged: readonly number[] | null;
}

export interface InspectOptions {
  /** The bundle's folder, and the hash of the bundle that the run asked. */
  readonly model: Pick<Summary['model'], 'directory' | 'sha256' | 'dtypes' | 'device'>;
  readonly per: Summary['per'];
  readonly questions: readonly Question[];
  readonly answers: ReadonlyMap<string, AnswersByReducer>;
  /** The SPECs of the run's rows. */
  readonly reducers: readonly string[];
  readonly abortSignal: AbortSignal;
  readonly onProgress: (done: number, total: number) => void;
}

/** As many as the run generates, so that the answers can be compared. */
const MAX_NEW_TOKENS = 16;

/**
 * @throws ResultsError where the run has no answer to a question; what the runner and the reducers throw; the
 * abort signal's reason
 */
export async function inspectQuestions(options: InspectOptions): Promise<Inspection[]> {
  const { model, questions, answers, abortSignal, onProgress } = options;
  const rows = options.reducers.map((reducer) => ({ reducer, reducers: createReducers(registry, reducer) }));
  await using lvlm = await Lvlm.load(model.directory, { dtype: model.dtypes, device: model.device });
  if ((await fingerprintBundle(lvlm.info)) !== model.sha256)
    throw new ResultsError(
      `The model in ${model.directory} is not the one that the run asked. Name that one with --model, or leave the examples out with --no-questions.`,
    );
  const total = questions.length * (rows.length + 1);
  let done = 0;
  onProgress(done, total);
  const inspections: Inspection[] = [];
  for (const question of questions) {
    const images = [await readImage(question.image)];
    const call = { lvlm, images, prompt: question.question, abortSignal };
    const { attention, place } = await readAttention(call);
    onProgress(++done, total);
    const methods: MethodInspection[] = [];
    for (const { reducer, reducers } of rows) {
      const recorded = answers.get(question.id)?.get(reducer);
      if (!recorded)
        throw new ResultsError(
          `The run has no answer of ${reducer} to the question ${question.id}: it is not whole.`,
        );
      const { text, report } = await ask({ ...call, per: options.per }, reducers);
      methods.push({
        reducer,
        text: recorded.text,
        correct: recorded.correct,
        textNow: text === recorded.text ? null : text,
        inputTokens: report.inputTokens,
        outputTokens: report.outputTokens,
        light: lightOf(report),
        merged: mergedInto(report),
      });
      onProgress(++done, total);
    }
    inspections.push({ question, place, attention, methods });
  }
  return inspections;
}

interface Call {
  readonly lvlm: Lvlm;
  readonly images: readonly RawImage[];
  readonly prompt: string;
  readonly per?: Summary['per'];
  readonly abortSignal: AbortSignal;
}

async function ask(
  { lvlm, ...call }: Call,
  reducers: readonly TokenReducer[],
  maxNewTokens = MAX_NEW_TOKENS,
): Promise<{ text: string; report: CropReport }> {
  const { text, images } = await lvlm.generate({ ...call, reducers, maxNewTokens, reuseEncoding: true });
  return { text, report: images[0].crops[0] }; // the first crop is the whole picture
}

/** Reads the signals as a reducer that keeps every token. */
async function readAttention(call: Call): Promise<Pick<Inspection, 'attention' | 'place'>> {
  let attention: Attention | null = null;
  const reader = defineReducer({
    name: 'attention-reader',
    at: [atFeatures],
    requires: { ...significanceSignals('variance'), share: attentionShare() },
    plan: async ({ length, signals }) => {
      attention = { significance: significance(signals, 'variance'), share: signals.share };
      return identityPlan(length);
    },
  });
  const { report } = await ask(call, [reader], 1).catch(async (cause: unknown) => {
    if (!FoveateError.isInstance(cause) || call.abortSignal.aborted) throw cause;
    attention = null; // This encoder's attention cannot be read; what was kept can be drawn all the same.
    return ask(call, [], 1);
  });
  const { grid, region } = report;
  return { attention, place: grid && region && { grid, region } };
}
