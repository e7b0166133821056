/** `foveate methods`: what there is. */
import type { OptionDescription, ReducerEntry } from '@foveate/core';
import { registry } from './registry.js';

type Method = Pick<ReducerEntry, 'name' | 'description' | 'options'>;

const none: Method = { name: 'none', description: 'keeps every token', options: [] };

/** A block for each method: its name and what it keeps, then its options with their defaults and values. */
export function describeMethods(): string {
  const methods = [none, ...registry.entries];
  const blocks = methods.map(({ name, description, options }) => {
    const width = Math.max(...options.map((option) => written(option).length));
    const lines = options.map(
      (option) => `  ${written(option).padEnd(width)}  ${option.description}: ${option.values}`,
    );
    return [`${name}: ${description}`, ...lines].join('\n');
  });
  return `${blocks.join('\n\n')}\n`;
}

function written({ name, default: byDefault }: OptionDescription): string {
  return byDefault === '' ? name : `${name}=${byDefault}`;
}
