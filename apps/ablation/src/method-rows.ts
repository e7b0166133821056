/** The rows of `--preset methods`: every method at the same mean numbers of visual tokens a layer. */
import { FoveateError, layerInTower, scaledLayer, type DeclaredSite, type TokenReducer } from '@foveate/core';
import type { ReducerEntry, ReducerRegistry } from '@foveate/core/registry';
import type { OmittedRow, Question, SweepRow } from '@foveate/eval';
import { ImageError, readImage, type Lvlm } from '@foveate/lvlm';
import { createReducers, formatSpec, parseSpec } from './spec.js';

/** How many visual tokens a layer of the language model reads on average. */
interface MethodBudget {
  /** Of the 576 of LLaVA-1.5, which papers compare at. */
  readonly tokens: number;
  /** The same as a share of all tokens, whatever their number. */
  readonly share: number;
}

/** Those of the field, the largest first. */
const methodBudgets: readonly MethodBudget[] = [192, 128, 64].map((tokens) => ({
  tokens,
  share: tokens / 576,
}));

/** Of a budget: what a method of several sites may miss it by before its share is sought. */
const SOUGHT_WITHIN = 0.02;

/** Halvings of the range of shares. */
const STEPS = 12;

/** Of a budget, or of the larger of two numbers of tokens: what is still called equal. */
export const EQUAL_WITHIN = 0.1;

/** So many seeds of a method that is nothing but a draw. */
const SEEDS = 5;

/** Layers of LLaVA-1.5-7B, which layers that do not scale by themselves are numbers of. */
const DEPTH = { vision: 24, language: 32 } as const;

/** How many layers the towers of a model have. */
export type Layers = Readonly<Record<keyof typeof DEPTH, number>>;

/** Rows, and what could be none. */
export interface ChosenRows {
  readonly rows: readonly SweepRow[];
  readonly omitted: readonly OmittedRow[];
}

/** What may become a row. */
export interface Candidate {
  readonly spec: string;
  /** Null where the method takes none. */
  readonly budget: MethodBudget | null;
  /** Why no SPEC of it comes to the budget; null where one does. */
  readonly impossible: string | null;
  /** Of a method of several sites inside the language model: its SPEC with another share. */
  readonly withShare?: (share: number) => string;
}

/**
 * The rows that a model can run. Each is tried on one question: what the model cannot run, or what reads over
 * a tenth more than its budget, is left out, with the reason. What reads less stays, as whole rows of a grid
 * may. A method of several sites inside the language model whose mean is another in a model of this depth is
 * given the share that comes nearest to the budget.
 * @param questions at least one, of which the first is asked whose image can be read
 * @throws ImageError where none can; what the model throws that keeps every token
 */
export async function chooseMethodRows(
  registry: ReducerRegistry,
  model: Lvlm,
  questions: readonly Question[],
  per: 'crop' | 'image',
): Promise<ChosenRows> {
  const { visionLayers: vision, layers: language } = model.info;
  const trial = await openTrial(model, questions, per);
  const rows: SweepRow[] = [{ reducer: 'none', reducers: [] }];
  const omitted: OmittedRow[] = [];
  const candidates = candidatesOf(registry, { vision, language });
  for (const candidate of candidates) {
    const most = (candidate.budget?.share ?? 1) * trial.tokens;
    const readsOf = (spec: string): Promise<number> => trial.reads(createReducers(registry, spec));
    const { spec, reason } = await rowOf(candidate, most, readsOf);
    if (reason === null) rows.push(...drawsOf(registry, spec));
    else omitted.push({ reducer: candidate.spec, reason });
  }
  return { rows, omitted: together(omitted, candidates) };
}

/** Mean number of visual tokens that a layer reads behind a chain. */
type Reads = (reducers: readonly TokenReducer[]) => Promise<number>;

async function openTrial(
  model: Lvlm,
  questions: readonly Question[],
  per: 'crop' | 'image',
): Promise<{ readonly reads: Reads; readonly tokens: number }> {
  const [{ image, question: prompt }, ...others] = questions;
  try {
    const call = { images: [await readImage(image)], prompt, reuseEncoding: true, maxNewTokens: 1, per };
    const reads: Reads = async (reducers) => (await model.generate({ ...call, reducers })).equivalentTokens;
    return { reads, tokens: await reads([]) };
  } catch (error) {
    if (ImageError.isInstance(error) && others.length > 0) return openTrial(model, others, per);
    throw error;
  }
}

/** The SPEC of a candidate's row, or why it can be none. */
async function rowOf(
  { spec, impossible, withShare }: Candidate,
  budget: number,
  readsOf: (spec: string) => Promise<number>,
): Promise<{ readonly spec: string; readonly reason: string | null }> {
  if (impossible !== null) return { spec, reason: impossible };
  try {
    const first = { spec, reads: await readsOf(spec) };
    const isFar = Math.abs(first.reads - budget) > SOUGHT_WITHIN * budget;
    const best = withShare && isFar ? await nearest(first, withShare, budget, readsOf) : first;
    if (best.reads <= budget * (1 + EQUAL_WITHIN) + 1e-9) return { spec: best.spec, reason: null };
    const least = withShare ? 'at least ' : '';
    const reason = `A layer reads ${least}${rounded(best.reads)} tokens on average here, and the budget is ${rounded(budget)}.`;
    return { spec, reason };
  } catch (error) {
    if (FoveateError.isInstance(error)) return { spec, reason: error.message };
    throw error;
  }
}

/** A SPEC, and how many tokens a layer reads with it on average. */
interface Tried {
  readonly spec: string;
  readonly reads: number;
}

/** By halving: the larger the share, the more is read. */
async function nearest(
  first: Tried,
  withShare: (share: number) => string,
  budget: number,
  readsOf: (spec: string) => Promise<number>,
): Promise<Tried> {
  let best = first;
  for (let step = 0, low = 0, high = 1; step < STEPS; step++) {
    const share = (low + high) / 2;
    const spec = withShare(share);
    const reads = await readsOf(spec);
    if (Math.abs(reads - budget) < Math.abs(best.reads - budget)) best = { spec, reads };
    if (reads > budget) high = share;
    else low = share;
  }
  return best;
}

/** One line for a method of which no row is left, where each is left out for the same reason. */
function together(omitted: readonly OmittedRow[], candidates: readonly Candidate[]): OmittedRow[] {
  const nameOf = (spec: string): string => parseSpec(spec)[0].name;
  const lines = omitted.map(({ reducer, reason }): OmittedRow => {
    const name = nameOf(reducer);
    const tried = candidates.filter(({ spec }) => nameOf(spec) === name);
    const same = omitted.filter((other) => nameOf(other.reducer) === name && other.reason === reason);
    return { reducer: same.length === tried.length ? name : reducer, reason };
  });
  return [...new Map(lines.map((line) => [`${line.reducer} ${line.reason}`, line])).values()];
}

/** The row of a SPEC; of a method that looks at nothing and has a seed also its further draws. */
function drawsOf(registry: ReducerRegistry, spec: string): SweepRow[] {
  const row = { reducer: spec, reducers: createReducers(registry, spec) };
  const [{ name, options }] = parseSpec(spec);
  const isDraw =
    row.reducers.every(({ requires }) => Object.keys(requires).length === 0) &&
    registry.get(name).options.some((option) => option.name === 'seed');
  if (!isDraw) return [row];
  const others = Array.from({ length: SEEDS - 1 }, (_, index): SweepRow => {
    const reducer = formatSpec([{ name, options: { ...options, seed: String(index + 1) } }]);
    return { reducer, reducers: createReducers(registry, reducer), drawOf: spec };
  });
  return [row, ...others];
}

/** Every method of the registry at each budget, then those that take none. */
export function candidatesOf(registry: ReducerRegistry, layers: Layers): Candidate[] {
  const isBudgeted = ({ options }: ReducerEntry): boolean =>
    options.some(({ option, isBudget }) => isBudget && option === 'keepRatio');
  return [
    ...methodBudgets.flatMap((budget) =>
      registry.entries.filter(isBudgeted).map((entry) => candidateAt(entry, budget, layers)),
    ),
    ...registry.entries
      .filter((entry) => !isBudgeted(entry))
      .map(({ name }): Candidate => ({ spec: name, budget: null, impossible: null })),
  ];
}

/**
 * A method of one site inside the language model keeps, from there on, what makes the mean over all layers
 * the budget. Every other method keeps the budget itself: before the language model all of its layers read
 * that, and a method of several sites inside it takes a mean.
 */
function candidateAt(entry: ReducerEntry, budget: MethodBudget, layers: Layers): Candidate {
  const { at } = entry.create();
  const inner = at.length === 1 ? innerLayer(entry, at[0], layers) : null;
  const moved = inner?.isMoved ? { layer: String(inner.layer) } : {};
  const specOf = (share: number): string =>
    formatSpec([{ name: entry.name, options: { ...moved, keep: shareText(share) } }]);
  const isInside = inner?.tower === 'language' && inner.layer < layers.language; // or else the runner says so
  if (!isInside) {
    const isStaged = at.length > 1 && at.every(({ tower }) => tower === 'language');
    const own = { spec: specOf(budget.share), budget, impossible: null };
    return isStaged ? { ...own, withShare: specOf } : own;
  }
  const keep = (budget.share * layers.language - inner.layer) / (layers.language - inner.layer);
  if (keep > 0) return { spec: specOf(keep), budget, impossible: null };
  const before = `${inner.layer} of ${layers.language} layers read every token`;
  const least = `more than ${budget.tokens} of 576 on average, whatever it keeps`;
  const spec = formatSpec([{ name: entry.name, options: moved }]);
  return { spec, budget, impossible: `${before}, which is ${least}.` };
}

/** The layer before which a method acts, counted from the start, as far on the way as it was made for. */
function innerLayer(
  { options }: ReducerEntry,
  { tower, layer }: DeclaredSite,
  layers: Layers,
): { readonly tower: keyof Layers; readonly layer: number; readonly isMoved: boolean } | null {
  if (typeof layer === 'string') return null; // on the features, or before every layer
  const isFixed = typeof layer === 'number';
  const canMove =
    isFixed && layer > 0 && layer < DEPTH[tower] && options.some(({ name }) => name === 'layer');
  const wanted = canMove && layers[tower] < DEPTH[tower] ? scaledLayer(layer, DEPTH[tower]) : layer;
  const there = layerInTower(wanted, layers[tower], tower);
  const moved = typeof wanted === 'object' ? Math.max(1, there) : there;
  return { tower, layer: moved, isMoved: isFixed && layer > 0 && moved !== layer };
}

/** Rounded up at the fourth digit, so that rounding down to whole tokens gives those of the share itself. */
function shareText(share: number): string {
  return String(Math.ceil(share * 1e4 - 1e-6) / 1e4);
}

function rounded(tokens: number): string {
  return String(Number(tokens.toFixed(1)));
}
