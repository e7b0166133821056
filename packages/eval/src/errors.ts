/** The errors of an evaluation, on top of those of @foveate/core and @foveate/lvlm. */
import { FoveateError } from '@foveate/core';

/**
 * A data set's file, or an image that it names, is not as it should be. The message names the file and the
 * line.
 */
export class DatasetError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/DatasetError');
  override readonly name = 'DatasetError';
}

/**
 * A results folder cannot be used: of another configuration, finished or unfinished without `resume`,
 * damaged, or not writable.
 */
export class ResultsError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/ResultsError');
  override readonly name = 'ResultsError';
}

/**
 * A question could not be answered. The message names the question and the reducer; the cause is the runner's
 * error.
 */
export class AnswerError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/AnswerError');
  override readonly name = 'AnswerError';
}
