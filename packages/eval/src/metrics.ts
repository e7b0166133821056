/** Whether an answer is right, by the rules of lmms-eval. */
import type { Question } from './dataset.js';

/** What POPE reports of yes/no questions, as shares in [0, 1]; 0 where the divisor is 0. */
export interface PopeScores {
  readonly n: number;
  readonly accuracy: number;
  /** Of the answers "yes", how many are right. */
  readonly precision: number;
  /** Of the questions whose answer is "yes", how many were answered so. */
  readonly recall: number;
  /** Harmonic mean of precision and recall. */
  readonly f1: number;
  /**
   * Share of the answers GIVEN that are "yes". (lmms-eval's own figure counts the right answers, so it never
   * changes.)
   */
  readonly yesRatio: number;
}

/**
 * Whether `text` answers the question.
 * - `choice`: the letter, or a leading letter with a dot (ScienceQA, lmms_eval/tasks/scienceqa/utils.py at
 *   2f636e7).
 * - every other kind: the same word once both are in lower case and without space around (POPE,
 *   lmms_eval/tasks/pope/utils.py at 2c03baf).
 *
 * Files are those of https://github.com/EvolvingLMMs-Lab/lmms-eval.
 */
export function isCorrect({ kind, answer }: Pick<Question, 'kind' | 'answer'>, text: string): boolean {
  if (kind !== 'choice') return normalize(text) === normalize(answer);
  const letter = text.trim();
  return letter === answer || letter.startsWith(`${answer}.`);
}

/** POPE's scores of yes/no questions. A text that is neither counts as wrong, and as no "yes". */
export function popeScores(
  answered: readonly { readonly answer: string; readonly text: string }[],
): PopeScores {
  let truePositives = 0;
  let positives = 0; // the answer is yes
  let predicted = 0; // the text is yes
  let correct = 0;
  for (const { answer, text } of answered) {
    const isYes = normalize(answer) === 'yes';
    const saysYes = normalize(text) === 'yes';
    positives += Number(isYes);
    predicted += Number(saysYes);
    truePositives += Number(isYes && saysYes);
    correct += Number(normalize(answer) === normalize(text));
  }
  const precision = share(truePositives, predicted);
  const recall = share(truePositives, positives);
  return {
    n: answered.length,
    accuracy: share(correct, answered.length),
    precision,
    recall,
    f1: share(2 * precision * recall, precision + recall),
    yesRatio: share(predicted, answered.length),
  };
}

function normalize(text: string): string {
  return text.toLowerCase().trim();
}

function share(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole;
}
