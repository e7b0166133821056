/** Methods by name, and their options as people write them in text, e.g. `keep=0.25`. */
import { InvalidArgumentError, UnknownReducerError } from '../errors.js';
import {
  BUDGET_GROUP,
  checkAlone,
  type OptionDefinition,
  type Options,
  type OptionsOf,
  type OptionsSchema,
} from '../options.js';
import type { TokenReducer } from '../reducer.js';

/** One option of a method as people write it in text. */
export interface TextOption {
  /** Its name in text, e.g. `keep` in `fopru-rank:keep=0.25`. */
  readonly name: string;
  /** Its name in the factory's options, e.g. `keepRatio`. */
  readonly option: string;
  readonly description: string;
  /** What may be written, e.g. `original | score`, `(0, 1]`. */
  readonly values: string;
  /**
   * What holds where it is absent, as it would be written; empty where another option or the method's own
   * rule takes its place.
   */
  readonly default: string;
  /** Whether it states how many tokens are kept; at most one such option is given. */
  readonly isBudget: boolean;
}

/** A method as it is listed and made by name. */
export interface ReducerEntry {
  /** The reducer's own name. */
  readonly name: string;
  /** One line. */
  readonly description: string;
  readonly options: readonly TextOption[];
  /**
   * Makes the reducer from options in text, e.g. `{ keep: '0.25' }`.
   * @throws InvalidArgumentError on an unknown option (lists the known ones), a value that cannot be read,
   * two options that set the same thing
   */
  create(options?: Readonly<Record<string, string>>): TokenReducer;
}

/** A modifier as it is listed and made by name: what changes the method that it stands behind. */
export interface ModifierEntry extends Omit<ReducerEntry, 'create'> {
  /**
   * The modified method, made from options in text.
   * @throws InvalidArgumentError as {@link ReducerEntry.create}, and where the method is none that it can modify
   */
  modify(base: TokenReducer, options?: Readonly<Record<string, string>>): TokenReducer;
}

/** What {@link reducerEntry} makes an entry from. */
export interface ReducerEntryInit<Schema extends OptionsSchema> {
  readonly name: string;
  /** One line. */
  readonly description: string;
  readonly options: Options<Schema>;
  /** The method's factory. */
  readonly create: (options: OptionsOf<Schema>) => TokenReducer;
}

/** What {@link modifierEntry} makes an entry from. */
export interface ModifierEntryInit<Schema extends OptionsSchema> extends Omit<
  ReducerEntryInit<Schema>,
  'create'
> {
  readonly modify: (base: TokenReducer, options: OptionsOf<Schema>) => TokenReducer;
}

/** Methods by name. */
export interface ReducerRegistry {
  /** In the order in which they were registered. */
  readonly entries: readonly ReducerEntry[];
  /** In the order in which they were registered. */
  readonly modifiers: readonly ModifierEntry[];
  /** @throws UnknownReducerError, which lists the known names */
  get(name: string): ReducerEntry;
  /** The modifier of that name; undefined where there is none. */
  modifier(name: string): ModifierEntry | undefined;
}

/**
 * The entry of a method, made of its options and its factory.
 * @example
 * export const mineEntry = reducerEntry({ name: 'mine', description: 'keeps ...', options, create: mine });
 */
export function reducerEntry<Schema extends OptionsSchema>(init: ReducerEntryInit<Schema>): ReducerEntry {
  const { name, options, create } = init;
  return { ...listed(init), create: (texts = {}) => create(parseOptions(name, options.schema, texts)) };
}

/** The entry of a modifier, made of its options and its factory. */
export function modifierEntry<Schema extends OptionsSchema>(init: ModifierEntryInit<Schema>): ModifierEntry {
  const { name, options, modify } = init;
  return {
    ...listed(init),
    modify: (base, texts = {}) => modify(base, parseOptions(name, options.schema, texts)),
  };
}

/** What an entry says of its method. */
function listed<Schema extends OptionsSchema>({
  name,
  description,
  options,
}: Pick<ReducerEntryInit<Schema>, 'name' | 'description' | 'options'>): Omit<ModifierEntry, 'modify'> {
  const described = Object.entries(options.schema).map(([option, one]) => describeOption(option, one));
  return { name, description, options: described };
}

/**
 * A registry of methods.
 * @throws InvalidArgumentError where two entries have one name
 */
export function createRegistry(
  entries: readonly ReducerEntry[],
  modifiers: readonly ModifierEntry[] = [],
): ReducerRegistry {
  const byName = new Map(entries.map((entry) => [entry.name, entry]));
  const names = [...entries, ...modifiers].map(({ name }) => name);
  if (new Set(names).size < names.length) {
    throw new InvalidArgumentError('entries', names, 'reducers of different names');
  }
  return {
    entries,
    modifiers,
    modifier: (name) => modifiers.find((modifier) => modifier.name === name),
    get: (name) => {
      const entry = byName.get(name);
      if (!entry) throw new UnknownReducerError(name, [...byName.keys()]);
      return entry;
    },
  };
}

function describeOption(option: string, definition: OptionDefinition): TextOption {
  const { text = option, description, values, default: byDefault, group } = definition;
  return {
    name: text,
    option,
    description,
    values,
    default: writeValue(byDefault),
    isBudget: group === BUDGET_GROUP,
  };
}

/** A value as people would write it. */
function writeValue(value: unknown): string {
  if (value === undefined) return '';
  return Array.isArray(value) ? value.join('/') : `${value as string | number}`;
}

function parseOptions<Schema extends OptionsSchema>(
  reducer: string,
  schema: Schema,
  texts: Readonly<Record<string, string>>,
): OptionsOf<Schema> {
  const options = new Map(
    Object.entries(schema).map(([option, definition]) => [definition.text ?? option, { option, definition }]),
  );
  const parsed = Object.entries(texts).map(([name, text]): [string, unknown] => {
    const found = options.get(name);
    if (!found) {
      const known = [...options.keys()].join(', ') || 'none: it takes no options';
      throw new InvalidArgumentError(`option of ${reducer}`, name, `one of its options (${known})`);
    }
    const { option, definition } = found;
    return [option, definition.check(name, parseValue(name, text, definition))];
  });
  const present = parsed.map(([option]) => option);
  for (const option of present) checkAlone(schema, option, present, (each) => schema[each].text ?? each);
  return Object.fromEntries(parsed) as OptionsOf<Schema>;
}

function parseValue(name: string, text: string, { kind, values }: OptionDefinition): unknown {
  switch (kind) {
    case 'choice':
      return text;
    case 'number':
      return parseNumber(text) ?? refuse(name, text, `a number: ${values}`);
    case 'numbers':
      return text.split('/').map((each) => parseNumber(each) ?? refuse(name, text, `numbers: ${values}`));
  }
}

function parseNumber(text: string): number | undefined {
  const value = Number(text);
  return text.trim() === '' || !Number.isFinite(value) ? undefined : value;
}

function refuse(name: string, text: string, expected: string): never {
  throw new InvalidArgumentError(name, text, expected);
}
