/** `foveate methods`: what there is, and what of it a model can run. */
import { FoveateError } from '@foveate/core';
import type { ReducerEntry, TextOption } from '@foveate/core/registry';
import { Lvlm, type LoadOptions } from '@foveate/lvlm';
import { Help } from 'commander';
import { modelFolder, type ModelOptions } from './pull.js';
import { registry } from './registry.js';
import { createReducers } from './spec.js';

type Method = Pick<ReducerEntry, 'name' | 'description' | 'options'>;

/** Lays an option out, wrapped to the width of a page. */
const help = new Help();
help.helpWidth = 100;

const none: Method = { name: 'none', description: 'keeps every token', options: [] };

/** A block for each method: its name and what it keeps, then its options with their defaults and values. */
export function describeMethods(): string {
  const methods = [none, ...registry.entries];
  const blocks = methods.map(({ name, description, options }) => {
    const width = Math.max(...options.map((option) => written(option).length));
    const lines = options.map((option) =>
      help.formatItem(written(option), width, `${option.description}: ${option.values}`, help),
    );
    return [`${name}: ${description}`, ...lines].join('\n');
  });
  return `${blocks.join('\n\n')}\n`;
}

/** @throws FoveateError where the model cannot be loaded */
export async function describeMethodsOf(options: ModelOptions & Pick<LoadOptions, 'dtype'>): Promise<string> {
  const { dtype } = options;
  await using model = await Lvlm.load(await modelFolder(options), dtype === undefined ? {} : { dtype });
  const methods: string[] = [];
  for (const name of ['none', ...registry.entries.map((entry) => entry.name)]) {
    const reason = await reasonAgainst(model, name);
    methods.push(reason === null ? `${name}: runs` : `${name}: does not run\n${indented(reason)}`);
  }
  return `${model.info.modelType}, ${model.info.directory}\n\n${methods.join('\n')}\n`;
}

/** Why the model cannot run a method with its default options; null where it can. */
async function reasonAgainst(model: Lvlm, name: string): Promise<string | null> {
  try {
    await model.check(createReducers(registry, name));
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
