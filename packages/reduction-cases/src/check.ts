/** Puts the cases to an implementation. */
import { casesOf, type Implementation, type Kept, type MethodName } from './cases.js';

/** A case that an implementation decides otherwise than the official code. */
export interface CaseDifference {
  readonly name: string;
  readonly problem: string;
}

/**
 * Which cases an implementation gets wrong; none: it keeps the same tokens everywhere. Cases that are not to
 * be compared are passed over: where the official code fails, or rounding decides.
 * @param implementation from inputs to the kept positions, numbered as `kept` of the cases
 * @throws UnknownMethodError
 * @example
 * await checkCases('vispruner', ({ inputs, params }) => myVisPruner(inputs, params)); // []
 */
export async function checkCases<M extends MethodName>(
  method: M,
  implementation: Implementation<M>,
): Promise<CaseDifference[]> {
  const { cases } = await casesOf(method);
  const differences: CaseDifference[] = [];
  for (const { kept, name, params, inputs } of cases) {
    if (kept === null) continue;
    const problem = await implementationProblem(kept, async () => implementation({ name, params, inputs }));
    if (problem !== null) differences.push({ name, problem });
  }
  return differences;
}

async function implementationProblem(
  expected: readonly (readonly number[])[],
  run: () => Promise<Kept>,
): Promise<string | null> {
  try {
    const stages = stagesOf(await run());
    if (stages.length !== expected.length)
      return `${stages.length} lists of positions; expected ${expected.length}, one a stage`;
    const problems = stages.flatMap((kept, stage) => keptProblem(kept, expected[stage]));
    if (problems.length === 0) return null;
    return expected.length === 1 ? problems[0] : `in ${problems.length} stages, first: ${problems[0]}`;
  } catch (error) {
    return `throws: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** One list is the only stage. */
function stagesOf(kept: Kept): number[][] {
  const items: (number | ArrayLike<number>)[] = Array.from<number | ArrayLike<number>>(kept);
  const numbers = items.filter((item) => typeof item === 'number');
  if (numbers.length === items.length) return [numbers];
  return items.map((item) => (typeof item === 'number' ? [item] : Array.from(item)));
}

function keptProblem(kept: readonly number[], expected: readonly number[]): string[] {
  const [ours, theirs] = [new Set(kept), new Set(expected)];
  const parts = [
    listed(
      'missing',
      expected.filter((token) => !ours.has(token)),
    ),
    listed(
      'not kept there',
      kept.filter((token) => !theirs.has(token)),
    ),
    listed(
      'repeated',
      kept.filter((token, index) => kept.indexOf(token) !== index),
    ),
  ].filter((part) => part !== '');
  return parts.length === 0 ? [] : [parts.join('; ')];
}

function listed(what: string, tokens: readonly number[]): string {
  if (tokens.length === 0) return '';
  return `${tokens.length} ${what} (${tokens.slice(0, 5).join(', ')}${tokens.length > 5 ? ', ...' : ''})`;
}
