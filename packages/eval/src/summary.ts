/** Adds up a run. */
import type { Device, GraphDtypes } from '@foveate/lvlm';
import { createBootstrap, type BootstrapInterval } from './bootstrap.js';
import {
  compareEqualRows,
  compareWithBaseline,
  type ComparedRow,
  type Comparison,
  type Difference,
  type EqualBy,
} from './comparison.js';
import { CROWDED, type Question } from './dataset.js';
import { popeScores, type PopeScores } from './metrics.js';
import type { Machine } from './machine.js';
import type { AnswerRecord } from './results.js';
import { stratumOf } from './sample.js';
import { mean, median, wilsonInterval } from './statistics.js';

/** summary.json. */
export interface Summary {
  readonly model: {
    readonly directory: string;
    readonly sha256: string;
    /** The variant of each graph. */
    readonly dtypes: GraphDtypes;
    /** Where onnxruntime ran them. */
    readonly device: Device;
    readonly modelType: string;
    readonly layers: number;
    readonly kvHeads: number;
    readonly headDim: number;
  };
  readonly data: {
    readonly file: string;
    readonly sha256: string;
    /** Questions in the file. */
    readonly questions: number;
    /** As asked for; 0: all. */
    readonly limit: number;
  };
  /** What no row was asked, because the image cannot be read. */
  readonly skipped: {
    readonly questions: number;
    /** Each once, from the data set's folder. */
    readonly images: readonly string[];
  };
  readonly seed: number;
  /** What the rows are together, e.g. `table2`; null where they are no set of that kind. */
  readonly preset: string | null;
  /** What is no row of that set, and why: the model cannot run it, say. */
  readonly omitted: readonly OmittedRow[];
  /** Where reducers before the language model computed; `onnx`: in the encoder's graph. */
  readonly backend: string;
  /** What a budget was of. */
  readonly per: 'crop' | 'image';
  /** How `ci95` is computed. */
  readonly interval: 'bootstrap';
  /** Draws of that bootstrap. */
  readonly resamples: number;
  /** Questions of the latency pass. */
  readonly latencyQuestions: number;
  readonly machine: Machine;
  readonly rows: readonly SummaryRow[];
  /** The number by which two rows count as equally dear. */
  readonly equalBy: EqualBy;
  /** Each two rows that are equally dear, in the order of the rows. */
  readonly comparisons: readonly Comparison[];
}

/** A method that a set of rows would have, and has not. */
export interface OmittedRow {
  /** Its SPEC, or its name where no SPEC of it can be a row. */
  readonly reducer: string;
  /** A sentence or more. */
  readonly reason: string;
}

/** The answers of a row whose choice is a draw, by several seeds: shares answered rightly, in [0, 1]. */
export interface Draws {
  /** How many seeds. */
  readonly n: number;
  readonly lowest: number;
  readonly mean: number;
  readonly highest: number;
}

/** Some questions, and the share of them that was answered rightly. */
export interface Accuracy {
  readonly n: number;
  /** In [0, 1]. */
  readonly accuracy: number;
}

/** One reducer's row. Milliseconds and `kvBytes` are medians over the latency pass. */
export interface SummaryRow extends Latency {
  /** The full SPEC. */
  readonly reducer: string;
  /** Mean share of the visual tokens left after the last step. */
  readonly keep: number;
  /** Mean number of them, of one question's images. */
  readonly keptTokens: number;
  /** The same after each step, in their order; empty for the row that keeps everything. */
  readonly steps: readonly StageTokens[];
  /**
   * Mean number of visual tokens that a layer of the language model reads: a step inside it leaves the first
   * K of L layers with all N, so T = (N * K + kept * (L - K)) / L. Equal to `keptTokens` where every step
   * comes before it.
   */
  readonly equivalentTokens: number;
  /** How many were asked: those of crowded scenes too. */
  readonly questions: number;
  /** Share of all of them answered rightly: the mean of `byKind`, weighted by its n. */
  readonly accuracy: number;
  /**
   * 95 % interval of `accuracy`: bootstrap; Wilson's score where all or no answers are right, which
   * resampling cannot spread.
   */
  readonly ci95: readonly [lower: number, upper: number];
  /** Over its seeds, this row's own included; absent where it has no other. */
  readonly draws?: Draws;
  /** Against the row that keeps every token; null for itself, and where there is none. */
  readonly againstNone: Difference | null;
  /** The same without the crowded scenes. */
  readonly ordinary: Accuracy;
  /**
   * Ordinary scenes by kind; crowded scenes of every kind under `crowded`. Every question counts in exactly
   * one.
   */
  readonly byKind: Readonly<Record<string, Accuracy>>;
  /** POPE's scores of the ordinary scenes' `presence` questions; absent where there are none. */
  readonly pope?: PopeScores;
  /**
   * Highest resident set of a process of its own while it answered one question; null where the system cannot
   * tell.
   */
  readonly peakRssBytes: number | null;
  /** What the runner and the reducers said, each once; at most ten. */
  readonly warnings: readonly string[];
}

/** What one step of a row leaves. */
export interface StageTokens {
  /** The reducer's name, without options. */
  readonly reducer: string;
  /** Mean number of visual tokens after it, of one question's images. */
  readonly keptTokens: number;
}

/** What the latency pass measures: of one call, or a row's medians. */
export interface Latency {
  /** From the call to the first token, encoder and reduction included. */
  readonly ttftMs: number;
  readonly visionMs: number;
  readonly reduceMs: number;
  /** Embedding, scattering the visual tokens, first run of the decoder. */
  readonly prefillMs: number;
  /** Mean time of a later token; null where there was none. */
  readonly tpotMs: number | null;
  readonly kvBytes: number;
}

type Answered = readonly { readonly question: Question; readonly record: AnswerRecord }[];

/** What a run gathered of one row. */
export interface RowResults {
  /** The full SPEC. */
  readonly reducer: string;
  /** Names of its steps' reducers. */
  readonly steps: readonly string[];
  /** One a question, at least one, the questions of all rows in the same order. */
  readonly answered: Answered;
  /** The calls of the latency pass, at least one. */
  readonly calls: readonly Latency[];
  readonly peakRssBytes: number | null;
  /** The same questions answered by its other seeds, one list a seed; default: none. */
  readonly otherDraws?: readonly Answered[];
}

const MAX_WARNINGS = 10;

/**
 * Adds up the rows of a run, at least one, and compares them.
 * @param seed of the bootstrap
 * @param resamples of the bootstrap
 * @param equalBy the number by which two rows count as equally dear
 */
export function summarizeRows(
  results: readonly RowResults[],
  seed: number,
  resamples: number,
  equalBy: EqualBy = 'keptTokens',
): Pick<Summary, 'rows' | 'comparisons'> {
  const strata = results[0].answered.map(({ question }) => stratumOf(question));
  const interval = createBootstrap(strata, seed, resamples);
  const compared = results.map(({ reducer, answered }): ComparedRow => ({
    reducer,
    keptTokens: keptTokensOf(answered),
    equivalentTokens: equivalentTokensOf(answered),
    scores: answered.map(({ record }) => Number(record.correct)),
  }));
  const none = compared.find((_, row) => results[row].steps.length === 0);
  const againstNone = none ? compareWithBaseline(compared, none, interval) : [];
  return {
    rows: results.map((result, row) => summarizeRow(result, interval, againstNone[row] ?? null)),
    comparisons: compareEqualRows(compared, equalBy, interval),
  };
}

function summarizeRow(
  { reducer, steps, answered, calls, peakRssBytes, otherDraws = [] }: RowResults,
  interval: BootstrapInterval,
  againstNone: Difference | null,
): SummaryRow {
  const { n, accuracy } = accuracyOf(answered);
  const ordinary = answered.filter(({ question }) => !question.crowded);
  const presence = ordinary.filter(({ question }) => question.kind === 'presence');
  return {
    reducer,
    keep: mean(answered.map(({ record }) => record.outputTokens / record.inputTokens)),
    keptTokens: keptTokensOf(answered),
    steps: steps.map((name, step) => ({
      reducer: name,
      keptTokens: mean(answered.map(({ record }) => record.stepTokens[step])),
    })),
    equivalentTokens: equivalentTokensOf(answered),
    questions: n,
    accuracy,
    ci95: accuracyInterval(answered, interval),
    ...(otherDraws.length > 0 && { draws: drawsOf([answered, ...otherDraws]) }),
    againstNone,
    ordinary: accuracyOf(ordinary),
    byKind: accuracyByKind(answered),
    ...(presence.length > 0 && {
      pope: popeScores(
        presence.map(({ question, record }) => ({ answer: question.answer, text: record.text })),
      ),
    }),
    ...medians(calls),
    peakRssBytes,
    warnings: [...new Set(answered.flatMap(({ record }) => record.warnings))].slice(0, MAX_WARNINGS),
  };
}

function keptTokensOf(answered: Answered): number {
  return mean(answered.map(({ record }) => record.outputTokens));
}

function equivalentTokensOf(answered: Answered): number {
  return mean(answered.map(({ record }) => record.equivalentTokens));
}

function drawsOf(draws: readonly Answered[]): Draws {
  const shares = draws.map((answered) => accuracyOf(answered).accuracy);
  return {
    ...{ n: shares.length, mean: mean(shares) },
    ...{ lowest: Math.min(...shares), highest: Math.max(...shares) },
  };
}

function accuracyInterval(answered: Answered, interval: BootstrapInterval): SummaryRow['ci95'] {
  const scores = answered.map(({ record }) => Number(record.correct));
  const correct = scores.reduce((sum, score) => sum + score, 0);
  const spread = correct > 0 && correct < scores.length;
  return spread ? interval(scores) : wilsonInterval(correct, scores.length);
}

function accuracyOf(answered: Answered): Accuracy {
  const correct = answered.filter(({ record }) => record.correct).length;
  return { n: answered.length, accuracy: answered.length === 0 ? 0 : correct / answered.length };
}

/** Kinds in alphabetical order, crowded scenes last. */
function accuracyByKind(answered: Answered): Record<string, Accuracy> {
  const strata = [...new Set(answered.map(({ question }) => stratumOf(question)))].sort();
  const kinds = [...strata.filter((name) => name !== CROWDED), ...strata.filter((name) => name === CROWDED)];
  return Object.fromEntries(
    kinds.map((kind) => [kind, accuracyOf(answered.filter(({ question }) => stratumOf(question) === kind))]),
  );
}

function medians(calls: readonly Latency[]): Latency {
  const of = (name: keyof Latency): number | null =>
    median(calls.map((call) => call[name]).filter((value) => value !== null));
  return {
    ttftMs: of('ttftMs') ?? 0,
    visionMs: of('visionMs') ?? 0,
    reduceMs: of('reduceMs') ?? 0,
    prefillMs: of('prefillMs') ?? 0,
    tpotMs: of('tpotMs'),
    kvBytes: of('kvBytes') ?? 0,
  };
}
