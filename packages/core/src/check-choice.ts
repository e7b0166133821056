import { InvalidArgumentError } from './errors.js';

/**
 * Checks an option that takes one of a few values, and returns it.
 * @throws InvalidArgumentError naming the values
 */
export function checkChoice<Value>(argument: string, value: Value, choices: readonly Value[]): Value {
  if (!choices.includes(value)) {
    throw new InvalidArgumentError(
      argument,
      value,
      choices.map((choice) => JSON.stringify(choice)).join(' or '),
    );
  }
  return value;
}
