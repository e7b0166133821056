/**
 * The options of a method, declared once: the declaration gives their type, defaults, check, text on a
 * command line and table in a README.
 */
import { budgetChecks, type Budget, type RatioBudget, type ScoreBudget } from './budget.js';
import { InvalidArgumentError } from './errors.js';

/** One option. */
export interface OptionDefinition<Value = unknown> {
  /** How text is read: as a number, as numbers joined by `/`, or as one of the words in `choices`. */
  readonly kind: 'number' | 'numbers' | 'choice';
  /** What it does, a clause without a full stop. */
  readonly description: string;
  /** What may be given, in words, e.g. `(0, 1]`. */
  readonly values: string;
  /** Its name in text, where that is shorter than its own. */
  readonly text?: string;
  /** What holds where it is absent; undefined: nothing does. */
  readonly default: Value | undefined;
  /** The words, where it takes one of a few. */
  readonly choices?: readonly string[];
  /**
   * Options of one group replace one another: at most one of them may be given, and their defaults hold only
   * where none is.
   */
  readonly group?: string;
  /** @throws InvalidArgumentError */
  readonly check: (name: string, value: unknown) => Value;
}

/** Options by name. */
export type OptionsSchema = Readonly<Record<string, OptionDefinition>>;

/** The options as a caller gives them. */
export type OptionsOf<Schema extends OptionsSchema> = {
  readonly [Name in keyof Schema]?: NonNullable<ReturnType<Schema[Name]['check']>>;
};

/** The options with their defaults: undefined where there is none. */
export type CheckedOptions<Schema extends OptionsSchema> = {
  readonly [Name in keyof Schema]: ReturnType<Schema[Name]['check']> | Schema[Name]['default'];
};

/** Some options, and their check. */
export interface Options<Schema extends OptionsSchema = OptionsSchema> {
  readonly schema: Schema;
  /**
   * Checks what a caller gave and fills in the defaults.
   * @throws InvalidArgumentError on an option that is not known, a value out of its range, two of a group
   */
  check(given: OptionsOf<Schema>): CheckedOptions<Schema>;
}

/**
 * Declares the options of a method.
 * @example
 * const options = defineOptions({
 *   ...budgetOptions({ keepRatio: 0.25 }),
 *   order: choiceOption(['original', 'score'], 'order of the kept tokens'),
 * });
 * type MineOptions = OptionsOf<typeof options.schema>;
 */
export function defineOptions<const Schema extends OptionsSchema>(schema: Schema): Options<Schema> {
  const names = Object.keys(schema);
  const check = (given: OptionsOf<Schema>): CheckedOptions<Schema> => {
    if (typeof given !== 'object' || (given as unknown) === null) {
      throw new InvalidArgumentError('options', given, 'an object');
    }
    const unknown = Object.keys(given).find((name) => !Object.hasOwn(schema, name));
    if (unknown !== undefined) {
      throw new InvalidArgumentError(
        'option',
        unknown,
        names.length === 0 ? 'absent: there are none' : `one of ${names.join(', ')}`,
      );
    }
    const present = names.filter((name) => given[name] !== undefined);
    for (const name of present) checkAlone(schema, name, present);
    const taken = new Set(present.map((name) => schema[name].group));
    return Object.fromEntries(
      names.map((name) => {
        const { group, default: byDefault } = schema[name];
        if (present.includes(name)) return [name, schema[name].check(name, given[name])];
        return [name, group !== undefined && taken.has(group) ? undefined : byDefault];
      }),
    ) as CheckedOptions<Schema>;
  };
  return { schema, check };
}

/**
 * Checks that of a group at most one option is given.
 * @param nameOf how the caller calls an option
 * @throws InvalidArgumentError
 */
export function checkAlone(
  schema: OptionsSchema,
  name: string,
  present: readonly string[],
  nameOf = (option: string): string => option,
): void {
  const { group } = schema[name];
  const other = group !== undefined && present.find((each) => each !== name && schema[each].group === group);
  if (!other) return;
  throw new InvalidArgumentError(`${nameOf(name)} and ${nameOf(other)}`, 'both', 'given one at a time');
}

/** An option that takes one of a few words, the default first. */
export function choiceOption<const Choices extends readonly [string, ...string[]]>(
  choices: Choices,
  description: string,
): OptionDefinition<Choices[number]> & { readonly default: Choices[number] } {
  return {
    kind: 'choice',
    description,
    values: choices.join(' | '),
    default: choices[0],
    choices,
    check: (name, value) => {
      const found = choices.find((choice) => choice === value);
      if (found === undefined)
        throw new InvalidArgumentError(name, value, choices.map((choice) => `'${choice}'`).join(' or '));
      return found;
    },
  };
}

/** Of {@link integerOption}. */
export interface IntegerRange<Default extends number | undefined = number> {
  /** Lowest value. */
  readonly from: number;
  /** Highest value. Default 2^53 - 1. */
  readonly to?: number;
  /** Undefined where the method's own rule holds without it. */
  readonly default: Default;
}

/** An option that takes a whole number. */
export function integerOption<const Default extends number | undefined>(
  { from, to = Number.MAX_SAFE_INTEGER, default: byDefault }: IntegerRange<Default>,
  description: string,
): OptionDefinition<number> & { readonly default: Default } {
  const words =
    to === Number.MAX_SAFE_INTEGER ? `an integer, ${from} or more` : `an integer from ${from} to ${to}`;
  return {
    kind: 'number',
    description,
    values: `${from}, ${from + 1}, ${from + 2}, ...`,
    default: byDefault,
    check: (name, value) => {
      if (Number.isSafeInteger(value) && (value as number) >= from && (value as number) <= to)
        return value as number;
      throw new InvalidArgumentError(name, value, words);
    },
  };
}

/** Of {@link numberOption}. */
export interface NumberRange {
  /** Lowest value. */
  readonly from: number;
  /** Highest value. Default: none. */
  readonly to?: number;
  readonly default: number;
}

/** An option that takes a finite number, fractions too. */
export function numberOption(
  { from, to = Infinity, default: byDefault }: NumberRange,
  description: string,
): OptionDefinition<number> & { readonly default: number } {
  const isOpen = to === Infinity;
  return {
    kind: 'number',
    description,
    values: isOpen ? `${from} or more` : `[${from}, ${to}]`,
    default: byDefault,
    check: (name, value) => {
      if (Number.isFinite(value) && (value as number) >= from && (value as number) <= to)
        return value as number;
      throw new InvalidArgumentError(
        name,
        value,
        isOpen ? `a number, ${from} or more` : `a number in [${from}, ${to}]`,
      );
    },
  };
}

/** An option that takes the layer before which a method acts: from 1, or below 0 from the end. */
export function layerOption(
  byDefault: number,
  description: string,
): OptionDefinition<number> & { readonly default: number } {
  return {
    kind: 'number',
    description,
    values: '1, 2, ... or -1, -2, ...',
    default: byDefault,
    check: (name, value) => {
      if (Number.isSafeInteger(value) && value !== 0) return value as number;
      throw new InvalidArgumentError(name, value, 'a whole number from 1, or below 0 to count from the end');
    },
  };
}

/**
 * An option that takes a list of numbers, in text joined by `/`.
 * @param item what each of them may be
 * @example
 * listOption(numberOption({ from: 0, to: 1, default: 1 }, ''), [0.5, 0.25], 'shares to keep'); // 0.5/0.25
 */
export function listOption(
  item: OptionDefinition<number>,
  byDefault: readonly number[],
  description: string,
): OptionDefinition<readonly number[]> & { readonly default: readonly number[] } {
  return {
    ...{ kind: 'numbers', description, values: `${item.values}, several joined by /`, default: byDefault },
    check: (name, value) => {
      const given: readonly unknown[] = Array.isArray(value) ? value : [];
      if (given.length === 0) throw new InvalidArgumentError(name, value, 'a list of at least one number');
      return given.map((each, index) => item.check(`${name}[${index}]`, each));
    },
  };
}

type BudgetOption = OptionDefinition<number>;

/** A budget as flat options: `keepRatio` and `keepCount`. */
export type BudgetOptions = Readonly<Record<'keepRatio' | 'keepCount', BudgetOption>>;

/** The same with `attentionMass`. */
export type ScoreBudgetOptions = Readonly<Record<'keepRatio' | 'keepCount' | 'attentionMass', BudgetOption>>;

/**
 * The options `keepRatio` and `keepCount`, one at a time; in text `keep` and `count`.
 * @param byDefault absent where the method's own rule holds without them
 * @param descriptions where the method's own say more
 */
export function budgetOptions(
  byDefault?: RatioBudget,
  descriptions: Partial<Record<keyof BudgetOptions, string>> = {},
): BudgetOptions {
  const {
    keepRatio = 'share of the tokens to keep: floor(N * keepRatio), at least 1',
    keepCount = 'number of tokens to keep',
  } = descriptions;
  return {
    keepRatio: budgetOption('keepRatio', 'keep', keepRatio, '(0, 1]', byDefault?.keepRatio),
    keepCount: budgetOption('keepCount', 'count', keepCount, '1, 2, 3, ...'),
  };
}

/**
 * {@link budgetOptions} and `attentionMass`, in text `mass`, for methods that rank by the attention that
 * tokens hold.
 */
export function scoreBudgetOptions(
  byDefault?: RatioBudget,
  descriptions: Partial<Record<keyof ScoreBudgetOptions, string>> = {},
): ScoreBudgetOptions {
  const { attentionMass = 'share of the attention that the kept tokens hold: the fewest that do' } =
    descriptions;
  return {
    ...budgetOptions(byDefault, descriptions),
    attentionMass: budgetOption('attentionMass', 'mass', attentionMass, '(0, 1]'),
  };
}

/** The word that options which state a budget share. */
export const BUDGET_GROUP = 'budget';

function budgetOption(
  name: keyof typeof budgetChecks,
  text: string,
  description: string,
  values: string,
  byDefault?: number,
): BudgetOption {
  return {
    ...{ kind: 'number', description, values, text, default: byDefault, group: BUDGET_GROUP },
    check: (argument, value) => {
      if (budgetChecks[name].valid(value)) return value as number;
      throw new InvalidArgumentError(argument, value, budgetChecks[name].words);
    },
  };
}

/** The budget among checked options; undefined where none was given and none holds by default. */
export function budgetOf(options: {
  readonly keepRatio: number | undefined;
  readonly keepCount: number | undefined;
}): Budget | undefined {
  const { keepRatio, keepCount } = options;
  if (keepRatio !== undefined) return { keepRatio };
  return keepCount === undefined ? undefined : { keepCount };
}

/** As {@link budgetOf}, by mass too. */
export function scoreBudgetOf(
  options: Parameters<typeof budgetOf>[0] & { readonly attentionMass: number | undefined },
): ScoreBudget | undefined {
  const { attentionMass } = options;
  return attentionMass === undefined ? budgetOf(options) : { attentionMass };
}
