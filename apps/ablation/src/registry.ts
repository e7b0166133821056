/** The methods that the command knows: the one table that `methods`, `ask` and `ablate` read. */
import { randomEntry, uniformEntry } from '@foveate/baselines';
import { createRegistry, type ReducerRegistry } from '@foveate/core/registry';
import { fastvEntry } from '@foveate/fastv';
import { fopruRankEntry } from '@foveate/fopru-rank';
import { fopruRowEntry } from '@foveate/fopru-row';
import { poolingEntry } from '@foveate/pooling';
import { prumergeEntry, prumergePlusEntry } from '@foveate/prumerge';
import { fastervlmEntry } from '@foveate/fastervlm';
import { restoreEntry } from '@foveate/restore';

export const registry: ReducerRegistry = createRegistry(
  [
    fopruRankEntry,
    fopruRowEntry,
    fastvEntry,
    prumergeEntry,
    prumergePlusEntry,
    poolingEntry,
    uniformEntry,
    randomEntry,
    fastervlmEntry,
  ],
  [restoreEntry],
);
