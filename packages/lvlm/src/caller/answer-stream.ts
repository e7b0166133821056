/** A call as an async generator of its tokens. Runs in the caller's thread. */
import type { GeneratedToken, GenerateOptions, GenerateResult } from './options-and-results.js';

/** How a call is followed and ended. */
type Ways = Required<Pick<GenerateOptions, 'abortSignal' | 'onToken'>>;

/**
 * The tokens of a call, each as soon as there is one; returns its result. Leaving it early ends the call.
 * @param outer what else ends the call
 */
export async function* answerStream(
  outer: AbortSignal | undefined,
  generate: (ways: Ways) => Promise<GenerateResult>,
): AsyncGenerator<GeneratedToken, GenerateResult, undefined> {
  const left = new AbortController();
  const tokens: GeneratedToken[] = [];
  let wake = (): void => undefined;
  const result = generate({
    abortSignal: outer ? AbortSignal.any([outer, left.signal]) : left.signal,
    onToken: (token) => {
      tokens.push(token);
      wake();
    },
  });
  const over = result.then(
    () => true,
    () => true, // told where the result is awaited
  );
  try {
    for (;;) {
      const more = new Promise<false>((resolve) => {
        wake = () => {
          resolve(false);
        };
      });
      while (tokens.length > 0) yield* tokens.splice(0, 1);
      if ((await Promise.race([more, over])) && tokens.length === 0) return await result;
    }
  } finally {
    left.abort();
    await over;
  }
}
