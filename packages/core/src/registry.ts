import type { Budget, MassBudget, ScoreBudget } from './budget.js';
import { InvalidArgumentError, UnknownReducerError } from './errors.js';
import type { TokenReducer } from './reducer.js';

/** One option of a reducer as people write it in text. */
export interface OptionDescription {
  /** E.g. `keep` in `fopru-rank:keep=0.25`. */
  readonly name: string;
  readonly description: string;
  /** What may be written, e.g. `true | false`, `(0, 1]`. */
  readonly values: string;
  /** What holds where the option is absent, as it would be written; empty where another option or the method's own rule takes its place. */
  readonly default: string;
}

/** An option that can be read from text into a part of the factory's options. */
export interface TextOption<Options> extends OptionDescription {
  /** @throws InvalidArgumentError on a text that is not among `values` */
  readonly parse: (text: string) => Partial<Options>;
}

/** A reducer as it is listed and made by name. */
export interface ReducerEntry {
  /** The reducer's own name. */
  readonly name: string;
  /** One line. */
  readonly description: string;
  readonly stage: TokenReducer['stage'];
  readonly options: readonly OptionDescription[];
  /**
   * Makes the reducer from options in text, e.g. `{ keep: '0.25' }`.
   * @throws InvalidArgumentError on an unknown option (lists the known ones), a value that cannot be read, two options that set the same thing
   */
  create(options?: Readonly<Record<string, string>>): TokenReducer;
}

/** What {@link reducerEntry} makes an entry from. */
export interface ReducerEntryInit<Options> {
  readonly name: string;
  /** One line. */
  readonly description: string;
  readonly stage: TokenReducer['stage'];
  readonly options: readonly TextOption<NoInfer<Options>>[];
  readonly create: (options: Partial<Options>) => TokenReducer;
}

/** Reducers by name. */
export interface ReducerRegistry {
  /** In the order in which they were registered. */
  readonly entries: readonly ReducerEntry[];
  /** @throws UnknownReducerError, which lists the known names */
  get(name: string): ReducerEntry;
}

/** An entry for a reducer's factory. */
export function reducerEntry<Options extends object>(init: ReducerEntryInit<Options>): ReducerEntry {
  return {
    name: init.name,
    description: init.description,
    stage: init.stage,
    options: init.options,
    create: (texts = {}) => init.create(parseOptions(init, texts)),
  };
}

/**
 * A registry of reducers.
 * @throws InvalidArgumentError where two entries have one name
 */
export function createRegistry(entries: readonly ReducerEntry[]): ReducerRegistry {
  const byName = new Map(entries.map((entry) => [entry.name, entry]));
  if (byName.size < entries.length) {
    const names = entries.map(({ name }) => name);
    throw new InvalidArgumentError('entries', names, 'reducers of different names');
  }
  return {
    entries,
    get: (name) => {
      const entry = byName.get(name);
      if (!entry) throw new UnknownReducerError(name, [...byName.keys()]);
      return entry;
    },
  };
}

/**
 * The two ways to write a budget: `keep`, a ratio, and `count`.
 * @param byDefault absent where the method's own rule holds without them
 */
export function budgetOptions(byDefault?: ScoreBudget): TextOption<{ budget: Budget }>[] {
  const defaults: Partial<Record<string, number>> = { ...byDefault };
  return [
    {
      name: 'keep',
      description: 'share of the tokens to keep',
      values: '(0, 1]',
      default: String(defaults.keepRatio ?? ''),
      parse: (text) => ({ budget: { keepRatio: parseNumber('keep', text) } }),
    },
    {
      name: 'count',
      description: 'number of tokens to keep, in place of keep',
      values: '1, 2, 3, ...',
      default: String(defaults.keepCount ?? ''),
      parse: (text) => ({ budget: { keepCount: parseNumber('count', text) } }),
    },
  ];
}

/** A third way, `mass`, to stand beside {@link budgetOptions} where the method takes a `ScoreBudget`. */
export function massOption(): TextOption<{ budget: MassBudget }> {
  return {
    name: 'mass',
    description: 'share of the attention that the kept tokens hold, in place of keep',
    values: '(0, 1]',
    default: '',
    parse: (text) => ({ budget: { attentionMass: parseNumber('mass', text) } }),
  };
}

/** An option that takes one of a few words. */
export function choiceOption<Name extends string, const Value extends string>(
  name: Name,
  description: string,
  values: readonly Value[],
  byDefault: Value,
): TextOption<Record<Name, Value>> {
  const written = values.join(' | ');
  return {
    name,
    description,
    values: written,
    default: byDefault,
    parse: (text) => {
      const value = values.find((candidate) => candidate === text);
      if (value === undefined) throw new InvalidArgumentError(name, text, written);
      return { [name]: value } as Partial<Record<Name, Value>>;
    },
  };
}

/** An option that is true or false. */
export function flagOption<Name extends string>(
  name: Name,
  description: string,
  byDefault: boolean,
): TextOption<Record<Name, boolean>> {
  return {
    name,
    description,
    values: 'true | false',
    default: String(byDefault),
    parse: (text) => {
      if (text !== 'true' && text !== 'false') throw new InvalidArgumentError(name, text, 'true | false');
      return { [name]: text === 'true' } as Partial<Record<Name, boolean>>;
    },
  };
}

/** An option that is a number; its range is the factory's to check. */
export function numberOption<Name extends string>(
  name: Name,
  description: string,
  values: string,
  byDefault: number,
): TextOption<Record<Name, number>> {
  return {
    name,
    description,
    values,
    default: String(byDefault),
    parse: (text) => ({ [name]: parseNumber(name, text) }) as Partial<Record<Name, number>>,
  };
}

function parseNumber(name: string, text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError(name, text, 'a number');
  return value;
}

function parseOptions<Options extends object>(
  { name: reducer, options }: ReducerEntryInit<Options>,
  texts: Readonly<Record<string, string>>,
): Partial<Options> {
  const parsed: Partial<Options> = {};
  for (const [name, text] of Object.entries(texts)) {
    const option = options.find((candidate) => candidate.name === name);
    if (!option) {
      const known = options.map((candidate) => candidate.name).join(', ') || 'none: it takes no options';
      throw new InvalidArgumentError(`option of ${reducer}`, name, `one of its options (${known})`);
    }
    const part = option.parse(text);
    const twice = Object.keys(part).find((key) => Object.hasOwn(parsed, key));
    if (twice !== undefined) {
      throw new InvalidArgumentError(`${reducer}: ${twice}`, texts, 'set by one option only');
    }
    Object.assign(parsed, part);
  }
  return parsed;
}
