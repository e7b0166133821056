import { OnnxArgumentError } from '../errors.js';

/** What a provider says of its parameters: for each the values it takes, the default first. */
export type ParameterChoices = Readonly<Record<string, readonly [string, ...string[]]>>;

/**
 * The parameters of a request, defaults filled in.
 * @param argument how messages call the request
 * @throws OnnxArgumentError on a parameter or a value that the signal does not have
 */
export function checkParameters(
  { name, parameters: choices = {} }: { readonly name: string; readonly parameters?: ParameterChoices },
  given: Readonly<Record<string, string | number | undefined>>,
  argument: string,
): Record<string, string> {
  const unknown = Object.keys(given).find((parameter) => !Object.hasOwn(choices, parameter));
  if (unknown !== undefined) {
    const known = Object.keys(choices).join(', ') || 'none';
    throw new OnnxArgumentError(argument, unknown, `parameters of ${name} (${known})`);
  }
  const parameters = Object.entries(choices).map(([parameter, values]): [string, string] => {
    const value = given[parameter] ?? values[0];
    if (values.includes(value as string)) return [parameter, value as string];
    throw new OnnxArgumentError(`${argument}.${parameter}`, value, values.join(' or '));
  });
  return Object.fromEntries(parameters);
}
