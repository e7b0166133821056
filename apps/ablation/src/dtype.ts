/** `--dtype`: one variant for all graphs, or `graph=variant` joined by commas. */
import type { DtypeChoice } from '@foveate/lvlm';
import { InvalidArgumentError } from 'commander';

/**
 * Whether there are such graphs and variants is the runner's to say.
 * @throws InvalidArgumentError of commander
 */
export function parseDtype(text: string): DtypeChoice {
  if (!text.includes('=')) return text as DtypeChoice;
  const pairs = text.split(',').map((pair) => pair.split('='));
  if (pairs.some((pair) => pair.length !== 2)) {
    throw new InvalidArgumentError('Write graph=variant,graph=variant.');
  }
  return Object.fromEntries(pairs) as DtypeChoice;
}

/** As {@link parseDtype} reads it. */
export function writeDtype(dtype: DtypeChoice): string {
  if (typeof dtype === 'string') return dtype;
  return Object.entries(dtype)
    .map(([graph, variant]) => `${graph}=${variant}`)
    .join(',');
}
