/** SPECs: how people write reducers. `name[:option=value]...`, steps joined by `+`, a list joined by `,`. */
import { FoveateError, type TokenReducer } from '@foveate/core';
import type { ReducerRegistry } from '@foveate/core/registry';
import type { SweepRow } from '@foveate/eval';

/** One step of a SPEC. */
export interface Step {
  readonly name: string;
  readonly options: Readonly<Record<string, string>>;
}

/** A SPEC, or a list of them, cannot be read. */
export class SpecError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/SpecError');
  override readonly name = 'SpecError';
}

/** The step that keeps everything. */
const NONE = 'none';

/**
 * Reads the steps of a SPEC; whether there are such reducers and options is the registry's to say.
 * @throws SpecError
 */
export function parseSpec(spec: string): Step[] {
  return spec.split('+').map((step) => {
    const [name, ...options] = step.split(':');
    if (!/^[a-z0-9-]+$/.test(name)) throw unreadable(spec, `${JSON.stringify(name)} is no name of a reducer`);
    return { name, options: parseOptions(spec, options) };
  });
}

function parseOptions(spec: string, texts: readonly string[]): Record<string, string> {
  const options = texts.map((text): [string, string] => {
    const option = /^([a-z0-9-]+)=([^=\s]+)$/i.exec(text);
    if (!option) throw unreadable(spec, `${JSON.stringify(text)} is no option=value`);
    return [option[1], option[2]];
  });
  const names = options.map(([name]) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw unreadable(spec, `${twice} is there twice`);
  return Object.fromEntries(options);
}

function unreadable(spec: string, problem: string): SpecError {
  return new SpecError(
    `The SPEC ${JSON.stringify(spec)} cannot be read: ${problem}. Write name[:option=value]..., steps joined by +, e.g. fopru-rank:keep=0.25. "foveate methods" lists names and options.`,
  );
}

/** The SPEC of some steps: what {@link parseSpec} reads. */
export function formatSpec(steps: readonly Step[]): string {
  return steps
    .map(({ name, options }) =>
      [name, ...Object.entries(options).map(([option, value]) => `${option}=${value}`)].join(':'),
    )
    .join('+');
}

/**
 * The reducers of a SPEC; a step `none` adds none, and a modifier changes the one before it.
 * @throws SpecError, UnknownReducerError, InvalidArgumentError
 */
export function createReducers(registry: ReducerRegistry, spec: string): TokenReducer[] {
  const reducers: TokenReducer[] = [];
  for (const { name, options } of parseSpec(spec)) {
    const modifier = registry.modifier(name);
    if (modifier) {
      const base = reducers.pop();
      if (!base) throw unreadable(spec, `${name} modifies the method before it, and there is none`);
      reducers.push(modifier.modify(base, options));
    } else if (name !== NONE) {
      reducers.push(registry.get(name).create(options));
    } else if (Object.keys(options).length > 0) {
      throw unreadable(spec, 'none takes no options');
    }
  }
  return reducers;
}

/**
 * The rows of a comparison: each SPEC of `list` is one; of a single step that takes a budget and states none
 * it is one for each ratio of `keep`.
 * @param list SPECs joined by commas
 * @param keep ratios in (0, 1] joined by commas
 * @throws SpecError, UnknownReducerError, InvalidArgumentError
 */
export function expandSpecs(registry: ReducerRegistry, list: string, keep: string): SweepRow[] {
  const ratios = splitList('--keep', keep);
  const wrong = ratios.find((ratio) => !(Number(ratio) > 0 && Number(ratio) <= 1));
  if (wrong !== undefined)
    throw new SpecError(`--keep takes ratios in (0, 1], e.g. 0.5,0.25; received ${JSON.stringify(wrong)}.`);
  const specs = splitList('--reducers', list).flatMap((spec) => {
    const steps = parseSpec(spec);
    if (!takesBudget(registry, steps)) return [spec];
    const [{ name, options }] = steps;
    return ratios.map((ratio) => formatSpec([{ name, options: { keep: ratio, ...options } }]));
  });
  const twice = specs.find((spec, index) => specs.indexOf(spec) !== index);
  if (twice !== undefined) throw new SpecError(`${twice} would be in the table twice. Name it once.`);
  return rowsOf(registry, specs);
}

/**
 * A row for each full SPEC.
 * @throws SpecError, UnknownReducerError, InvalidArgumentError
 */
export function rowsOf(registry: ReducerRegistry, specs: readonly string[]): SweepRow[] {
  return specs.map((spec) => ({ reducer: spec, reducers: createReducers(registry, spec) }));
}

function takesBudget(registry: ReducerRegistry, [{ name, options }, ...more]: readonly Step[]): boolean {
  if (more.length > 0 || name === NONE) return false;
  const budgets = registry.get(name).options.filter(({ isBudget }) => isBudget);
  if (budgets.some((option) => Object.hasOwn(options, option.name))) return false;
  // A method whose `keep` has no default has a rule of its own, which is what a SPEC without a budget asks
  // for.
  return budgets.some((option) => option.name === 'keep' && option.default !== '');
}

function splitList(option: string, list: string): string[] {
  const items = list.split(',').map((item) => item.trim());
  if (items.includes(''))
    throw new SpecError(`${option} ${JSON.stringify(list)} has an empty item: write items joined by commas.`);
  return items;
}
