/** The methods that the command knows: the one table that `methods`, `ask` and `ablate` read. */
import { randomEntry, uniformEntry } from '@foveate/baselines';
import { createRegistry, type ReducerRegistry } from '@foveate/core/registry';
import { fastvEntry } from '@foveate/fastv';
import { fopruRankEntry } from '@foveate/fopru-rank';
import { fopruRowEntry } from '@foveate/fopru-row';
import { poolingEntry } from '@foveate/pooling';
import { prumergeEntry, prumergePlusEntry } from '@foveate/prumerge';
import { earlyDropEntry } from '@foveate/early-drop';
import { tomeEntry } from '@foveate/tome';
import { fastervlmEntry } from '@foveate/fastervlm';
import { hipruneEntry } from '@foveate/hiprune';
import { dartEntry } from '@foveate/dart';
import { pyramiddropEntry } from '@foveate/pyramiddrop';
import { divpruneEntry } from '@foveate/divprune';
import { cdprunerEntry } from '@foveate/cdpruner';
import { scopeEntry } from '@foveate/scope';
import { restoreEntry } from '@foveate/restore';
import { sparsevlmEntry } from '@foveate/sparsevlm';
import { priortrEntry } from '@foveate/priortr';
import { v2dropEntry } from '@foveate/v2drop';
import { visionzipEntry } from '@foveate/visionzip';
import { visprunerEntry } from '@foveate/vispruner';

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
    sparsevlmEntry,
    priortrEntry,
    v2dropEntry,
    hipruneEntry,
    dartEntry,
    pyramiddropEntry,
    divpruneEntry,
    cdprunerEntry,
    scopeEntry,
    visionzipEntry,
    visprunerEntry,
    earlyDropEntry,
    tomeEntry,
  ],
  [restoreEntry],
);
