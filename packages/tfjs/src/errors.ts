import { FoveateError } from '@foveate/core';
import type { BackendAttempt } from './load-backend.js';

/** None of the preferred backends works here. */
export class BackendUnavailableError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/BackendUnavailableError');
  override readonly name = 'BackendUnavailableError';
  /** What was tried, in order, and why it does not work. */
  readonly attempts: readonly BackendAttempt[];

  constructor(attempts: readonly BackendAttempt[]) {
    const reasons = attempts.map(({ name, message }) => `${name}: ${message}`);
    super(`No TensorFlow.js backend works. ${reasons.join(' ')}`);
    this.attempts = attempts;
  }
}
