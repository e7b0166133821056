/** What a signal is: its declaration, the request that a method writes, and the check of its values. */
import { InvalidArgumentError, InvalidSignalError } from '../errors.js';
import { siteId, type ScaledLayer, type Site } from '../sites.js';

/**
 * One axis of a signal: `N` visual tokens, `D` channels, `H` heads, `S` tokens with the class token (and
 * others before the patches), `T` text tokens of the prompt, `L` layers. All but `N` may have any length.
 */
export type SignalAxis = 'N' | 'D' | 'H' | 'S' | 'T' | 'L';

/**
 * What a signal is about, which says who can provide it: a layer of the vision encoder; all of its layers;
 * the features, which enter the language model; a layer of the language model; the prompt as it enters it.
 */
export type SignalSource = 'vision-layer' | 'vision' | 'features' | 'language-layer' | 'prompt';

/**
 * How a signal follows its tokens through a plan. A selection restricts every signal that has an axis of
 * tokens. In a merge, `'sum'`: summed over an output's sources; `'mean'`: averaged with the output's weights
 * scaled to sum 1 (equal ones for `combine: 'max'`, and where they sum to 0). `'keep'`: about no single
 * token, it stays as it is. `'never'`: it is not available behind a plan.
 */
export type CarryRule = 'sum' | 'mean' | 'keep' | 'never';

/** What a signal is: all that the rest of Foveate knows of it, as plain data. */
export interface SignalDeclaration {
  /** In camel case; the name by which providers are found. */
  readonly name: string;
  readonly of: SignalSource;
  /** Row-major. Where the tokens are an axis, they are the first. */
  readonly shape: readonly SignalAxis[];
  readonly range: 'non-negative' | 'real';
  readonly carry: CarryRule;
}

/** Further parameters of a signal: for each the values it takes, the default first. */
export type SignalParameters = Readonly<Record<string, readonly [string, ...string[]]>>;

/** No names at all is what is meant. */
// eslint-disable-next-line @typescript-eslint/no-generated-empty-object-type
type NoParameters = Record<never, never>;

/**
 * A layer of the vision encoder. `'features'`: the one whose output makes the features (LLaVA's
 * `vision_feature_layer`), which in an exported graph is the attention nearest upstream of the projector. A
 * number counts from 0, or from the end where it is below 0: -1 is the last layer that the encoder was
 * trained with, which exports often lack. `'before'`: the one just before the site where the method acts. A
 * `scaledLayer` is as far on the way in a tower of another depth.
 */
export type VisionLayer = number | 'features' | 'before' | ScaledLayer;

/**
 * A layer of the language model, from 0, or from the end where it is below 0. `'before'`: the one just before
 * the site where the method acts; `'next'`: the one just behind it, run on the tokens as they are there.
 */
export type LanguageLayer = number | 'before' | 'next';

/** One signal of one layer, as a method asks for it: plain data that survives `structuredClone`. */
export interface SignalRequest {
  readonly signal: SignalDeclaration;
  /** Absent where the signal is of no layer. */
  readonly layer?: VisionLayer | LanguageLayer;
  /** All of the signal's further parameters. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** Options of a request: the layer where the signal is of one, and the signal's parameters. */
export type SignalOptions<Source extends SignalSource, Parameters extends SignalParameters> = {
  readonly [Name in keyof Parameters]?: Parameters[Name][number];
} & (Source extends 'vision-layer'
  ? { readonly layer?: VisionLayer }
  : Source extends 'language-layer'
    ? { readonly layer?: LanguageLayer }
    : unknown);

/** Makes requests for one signal. */
export interface Signal<
  Source extends SignalSource = SignalSource,
  Parameters extends SignalParameters = NoParameters,
> {
  /** @throws InvalidArgumentError on a layer or a parameter that the signal does not have */
  (options?: SignalOptions<Source, Parameters>): SignalRequest;
  readonly declaration: SignalDeclaration;
}

/** What {@link defineSignal} declares. */
export interface SignalDefinition<
  Source extends SignalSource,
  Parameters extends SignalParameters,
> extends SignalDeclaration {
  readonly of: Source;
  /** Default: none. */
  readonly parameters?: Parameters;
}

/**
 * Declares a signal. Whoever provides it finds it by its name: a graph, a tensor backend, or whoever made the
 * tokens.
 * @throws InvalidArgumentError on a name that is not in camel case, and a carry rule that the shape does not
 * allow
 * @example
 * const queries = defineSignal({
 *   name: 'queries',
 *   of: 'vision-layer',
 *   shape: ['N', 'D'],
 *   range: 'real',
 *   carry: 'mean',
 * });
 * queries({ layer: -1 });
 */
export function defineSignal<
  const Source extends SignalSource,
  const Parameters extends SignalParameters = NoParameters,
>(definition: SignalDefinition<Source, Parameters>): Signal<Source, Parameters> {
  const { parameters, ...declaration } = definition;
  const choices: SignalParameters = parameters ?? {};
  const known: SignalDeclaration = Object.freeze(declaration);
  checkDeclaration(known);
  const defaultLayer = defaultLayers[known.of];
  const request = (options: Readonly<Record<string, unknown>> = {}): SignalRequest => {
    const { layer = defaultLayer, ...given } = options;
    checkLayer(known, layer);
    const unknown = Object.keys(given).find((name) => !Object.hasOwn(choices, name));
    if (unknown !== undefined) {
      const names = [...(defaultLayer === undefined ? [] : ['layer']), ...Object.keys(choices)];
      const expected = names.length === 0 ? 'absent: there are none' : `one of ${names.join(', ')}`;
      throw new InvalidArgumentError(`option of ${known.name}`, unknown, expected);
    }
    const parameters = Object.entries(choices).map(([name, values]): [string, string] => {
      const { [name]: value = values[0] } = given;
      if (values.includes(value as string)) return [name, value as string];
      throw new InvalidArgumentError(`${known.name}.${name}`, value, values.join(' or '));
    });
    return Object.freeze({
      signal: known,
      ...(layer !== undefined && { layer: layer as VisionLayer | LanguageLayer }),
      parameters: Object.freeze(Object.fromEntries(parameters)),
    });
  };
  return Object.assign(request, { declaration: known });
}

const defaultLayers: Readonly<Record<SignalSource, 'features' | 'before' | undefined>> = {
  'vision-layer': 'features',
  vision: undefined,
  features: undefined,
  'language-layer': 'before',
  prompt: undefined,
};

/** Plans act on whole tokens, so that a signal is carried by its rows or not at all. */
function checkDeclaration({ name, shape, carry }: SignalDeclaration): void {
  if (!/^[a-z][A-Za-z0-9]*$/.test(name)) throw new InvalidArgumentError('name', name, 'in camel case');
  const ofTokens = shape.includes('N');
  const byRows = ofTokens && shape.lastIndexOf('N') === 0;
  if (carry === 'never' || (carry === 'keep' ? !ofTokens : byRows)) return;
  const expected =
    "'never', 'keep' of a signal without tokens, or 'sum' or 'mean' of one with tokens as its first axis alone";
  throw new InvalidArgumentError(`${name}.carry`, `${carry} of [${shape.join(', ')}]`, expected);
}

function checkLayer({ name, of }: SignalDeclaration, layer: unknown): void {
  if (defaultLayers[of] === undefined) {
    if (layer === undefined) return;
    throw new InvalidArgumentError(`${name}.layer`, layer, 'absent: the signal is of no single layer');
  }
  const isVision = of === 'vision-layer';
  if (Number.isSafeInteger(layer) || layer === 'before' || layer === (isVision ? 'features' : 'next')) return;
  if (isVision && typeof layer === 'object' && layer !== null && 'of' in layer) return;
  const words = isVision ? "'features', 'before' or scaledLayer(layer, of)" : "'before' or 'next'";
  throw new InvalidArgumentError(`${name}.layer`, layer, `a whole number, ${words}`);
}

/**
 * One string for one request, e.g. `keys@features:joined`, `promptAttention@2:last`: equal exactly where two
 * requests mean the same.
 */
export function signalId({ signal, layer, parameters }: SignalRequest): string {
  const name = typeof layer === 'object' ? `${layer.layer}/${layer.of}` : layer;
  const details = [...(name === undefined ? [] : [String(name)]), ...Object.values(parameters)].join(':');
  return details === '' ? signal.name : `${signal.name}@${details}`;
}

/**
 * The same request with `'before'` replaced by the layer just before a site, whose output the site reduces
 * (of a site inside a layer that layer, whose attention has run), and `'next'` by the one behind it.
 * @param site of a layer counted from the start
 * @throws InvalidArgumentError where the signal's layers are not in the site's tower
 */
export function requestAt(request: SignalRequest, site: Site): SignalRequest {
  const { layer, signal } = request;
  if (layer !== 'before' && layer !== 'next') return request;
  if (signal.of !== `${site.tower}-layer`) {
    throw new InvalidArgumentError(`${signal.name}.layer`, layer, `the number of a layer at ${siteId(site)}`);
  }
  if (site.layer === 'features') return { ...request, layer: 'features' };
  const isOwn = layer === 'next' || ('within' in site && site.within);
  return { ...request, layer: isOwn ? site.layer : site.layer - 1 };
}

/**
 * Checks a signal's values against its declaration and the number of tokens, and returns them.
 * @throws InvalidSignalError on a wrong type or length, NaN, Infinity, or a negative value where there can be
 * none
 */
export function checkSignal(request: SignalRequest, values: Float32Array, tokens: number): Float32Array {
  const { shape, range } = request.signal;
  const id = signalId(request);
  if (!(values instanceof Float32Array)) throw new InvalidSignalError(id, 'is not a Float32Array');
  const ofTokens = shape.reduce((product, axis) => (axis === 'N' ? product * tokens : product), 1);
  const free = shape.some((axis) => axis !== 'N');
  if (free ? values.length === 0 || values.length % ofTokens !== 0 : values.length !== ofTokens) {
    throw new InvalidSignalError(
      id,
      `has ${values.length} values, which are not [${shape.join(', ')}] for N = ${tokens} tokens`,
    );
  }
  const lowest = range === 'real' ? -Number.MAX_VALUE : 0;
  for (let i = 0; i < values.length; i++) {
    if (values[i] >= lowest && values[i] <= Number.MAX_VALUE) continue; // not so with NaN
    const found = Number.isFinite(values[i]) ? `negative (${values[i]})` : values[i];
    throw new InvalidSignalError(id, `is ${found} at index ${i}`);
  }
  return values;
}
