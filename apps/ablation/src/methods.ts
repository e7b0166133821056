/** `foveate methods`: what there is. */
import type { ReducerEntry, TextOption } from '@foveate/core/registry';
import { Help } from 'commander';
import { registry } from './registry.js';

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

function written({ name, default: byDefault }: TextOption): string {
  return byDefault === '' ? name : `${name}=${byDefault}`;
}
