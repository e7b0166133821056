/** `foveate methods`: what there is, and what of it a model can run. */
import { FoveateError, type TokenReducer } from '@foveate/core';
import type { ReducerEntry, TextOption } from '@foveate/core/registry';
import { Lvlm, type LoadOptions } from '@foveate/lvlm';
import { Help } from 'commander';
import { modelFolder, type ModelOptions } from './pull.js';
import { registry } from './registry.js';
import { createReducers } from './spec.js';
import { needsOf, placeOf, readsOf, type Place } from './traits.js';

/** Lays an option out, wrapped to the width of a page. */
const help = new Help();
help.helpWidth = 100;

/** In the order of the data. */
const headings: readonly (readonly [Place | 'modifier', string])[] = [
  ['encoder', 'INSIDE THE VISION ENCODER, whose later layers see fewer tokens'],
  ['features', 'ON THE FEATURES, between the encoder and the language model'],
  ['language', 'INSIDE THE LANGUAGE MODEL, whose later layers see fewer tokens'],
  ['several', 'AT SEVERAL OF THESE PLACES'],
  ['modifier', 'BEHIND A METHOD, which they change: METHOD+NAME'],
];

/**
 * The methods by where they act, a block for each: its name and what it keeps, what it needs and reads, its
 * options with their defaults and values.
 */
export async function describeMethods(): Promise<string> {
  const groups = await grouped(describeMethod, '\n\n');
  return `none: keeps every token\n\n${groups.join('\n\n')}\n`;
}

async function describeMethod({ name, description, options, spec }: Listed): Promise<string> {
  const width = Math.max(...options.map((option) => written(option).length));
  const lines = options.map((option) =>
    help.formatItem(written(option), width, `${option.description}: ${option.values}`, help),
  );
  const title = help.boxWrap(`${name}: ${description}`, help.helpWidth ?? Infinity);
  return [title, ...(await describeTraits(createReducers(registry, spec)[0])), ...lines].join('\n');
}

async function describeTraits(reducer: TokenReducer): Promise<string[]> {
  const needs = await needsOf(reducer);
  const reads = readsOf(reducer);
  return [
    indented(`needs ${needs.join(', ') || 'nothing that a model may lack'}`),
    indented(`reads ${reads.join(', ') || 'no signal'}`),
  ];
}

/** @throws FoveateError where the model cannot be loaded */
export async function describeMethodsOf(options: ModelOptions & Pick<LoadOptions, 'dtype'>): Promise<string> {
  const { dtype } = options;
  await using model = await Lvlm.load(await modelFolder(options), dtype === undefined ? {} : { dtype });
  const groups = await grouped(async ({ name, spec }) => {
    const reason = await reasonAgainst(model, spec);
    return reason === null ? `${name}: runs` : `${name}: does not run\n${indented(reason)}`;
  }, '\n');
  return `${model.info.modelType}, ${model.info.directory}\n\nnone: runs\n\n${groups.join('\n\n')}\n`;
}

/** What is listed, with the SPEC by which it is tried. */
type Listed = Pick<ReducerEntry, 'name' | 'description' | 'options'> & { readonly spec: string };

/** A text for each place where methods act: its heading, then one for each method there. */
async function grouped(describe: (listed: Listed) => Promise<string>, between: string): Promise<string[]> {
  const groups = new Map<Place | 'modifier', string[]>();
  const add = async (place: Place | 'modifier', listed: Listed): Promise<void> => {
    groups.set(place, [...(groups.get(place) ?? []), await describe(listed)]);
  };
  for (const entry of registry.entries) await add(placeOf(entry.create()), { ...entry, spec: entry.name });
  const base = await plainMethod();
  for (const entry of registry.modifiers) await add('modifier', { ...entry, spec: `${base}+${entry.name}` });
  return headings.flatMap(([place, heading]) => {
    const texts = groups.get(place);
    return texts ? [`${heading}\n\n${texts.join(between)}`] : [];
  });
}

/** A method on the features that neither needs nor reads anything, so that a modifier behind it does. */
async function plainMethod(): Promise<string> {
  for (const entry of registry.entries) {
    const reducer = entry.create();
    const asks = [...(await needsOf(reducer)), ...readsOf(reducer)];
    if (asks.length === 0 && placeOf(reducer) === 'features') return entry.name;
  }
  return 'none';
}

/** Why the model cannot run a SPEC; null where it can. */
async function reasonAgainst(model: Lvlm, spec: string): Promise<string | null> {
  try {
    await model.check(createReducers(registry, spec));
    return null;
  } catch (error) {
    if (FoveateError.isInstance(error)) return error.message;
    throw error;
  }
}

function indented(text: string): string {
  return help.formatItem('', 2, text, help);
}

function written({ name, default: byDefault }: TextOption): string {
  return byDefault === '' ? name : `${name}=${byDefault}`;
}
