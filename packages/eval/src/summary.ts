/** Adds up a run. */
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
  readonly seed: number;
  /** How `ci95` is computed. */
  readonly interval: 'Wilson';
  /** Questions of the latency pass. */
  readonly latencyQuestions: number;
  readonly machine: Machine;
  readonly rows: readonly SummaryRow[];
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
  /** Mean share of the visual tokens left after the last stage. */
  readonly keep: number;
  /** Mean number of them, of one question's images. */
  readonly keptTokens: number;
  /** How many were asked: those of crowded scenes too. */
  readonly questions: number;
  /** Share of all of them answered rightly: the mean of `byKind`, weighted by its n. */
  readonly accuracy: number;
  /** 95 % interval of `accuracy` (Wilson). */
  readonly ci95: readonly [lower: number, upper: number];
  /** The same without the crowded scenes. */
  readonly ordinary: Accuracy;
  /** Ordinary scenes by kind; crowded scenes of every kind under `crowded`. Every question counts in exactly one. */
  readonly byKind: Readonly<Record<string, Accuracy>>;
  /** POPE's scores of the ordinary scenes' `presence` questions; absent where there are none. */
  readonly pope?: PopeScores;
  /** Highest resident set of a process of its own while it answered one question; null where the system cannot tell. */
  readonly peakRssBytes: number | null;
  /** What the runner and the reducers said, each once; at most ten. */
  readonly warnings: readonly string[];
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

const MAX_WARNINGS = 10;

/** One row, from its answers (one a question, at least one) and the calls of its latency pass (at least one). */
export function summarizeRow(
  reducer: string,
  answered: Answered,
  calls: readonly Latency[],
  peakRssBytes: number | null,
): SummaryRow {
  const { n, accuracy } = accuracyOf(answered);
  const correct = answered.filter(({ record }) => record.correct).length;
  const ordinary = answered.filter(({ question }) => !question.crowded);
  const presence = ordinary.filter(({ question }) => question.kind === 'presence');
  return {
    reducer,
    keep: mean(answered.map(({ record }) => record.outputTokens / record.inputTokens)),
    keptTokens: mean(answered.map(({ record }) => record.outputTokens)),
    questions: n,
    accuracy,
    ci95: wilsonInterval(correct, n),
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
