import { InvalidPlanError } from './errors.js';

/** A grid of tokens, row-major, CLS excluded. */
export interface Grid {
  readonly rows: number;
  readonly columns: number;
}

/**
 * A reduction of N tokens to M: a sparse M x N map in CSR form, plain data that survives `structuredClone`.
 * Output m combines the input tokens `sources[offsets[m] .. offsets[m + 1])`.
 *
 * `combine: 'sum'`: output = sum of weight * source, the linear map that pruning, mean pooling and PruMerge
 * are. `combine: 'max'`: output = the greatest value of each channel over the sources, which max pooling is;
 * it is the same sparse product with (max, *) in place of (+, *). Picking tokens is both. So that one map is
 * written one way, a plan is 'max' only where some output has several sources, and has weights only where
 * 'sum' needs them.
 *
 * Invariants, checked by every function of this package that makes a plan: N, M >= 1; every output has at
 * least one source; sources ascend within an output; weights are finite; an anchor is one of its output's
 * sources. Its arrays belong to the plan: read them, never write them.
 */
export interface ReductionPlan {
  /** N */
  readonly inputLength: number;
  /** M */
  readonly outputLength: number;
  /** [M + 1], from 0 to the number of sources. */
  readonly offsets: Uint32Array;
  /** [sources] input tokens. */
  readonly sources: Uint32Array;
  /** [sources] Absent: each output is one unchanged token, or `combine` is 'max'. */
  readonly weights?: Float32Array;
  readonly combine: 'sum' | 'max';
  /** [M] The input token whose place each output takes. */
  readonly anchors: Uint32Array;
  /**
   * The grid that the outputs fill in row-major order, where the method guarantees one (row selection,
   * pooling); M = rows * columns.
   */
  readonly grid?: Grid;
  /** What the user should know of this plan, one sentence each. */
  readonly warnings: readonly string[];
}

/** What {@link createPlan} makes a plan from; a plan itself (or its structured clone) is one. */
export interface PlanParts {
  readonly inputLength: number;
  readonly offsets: ArrayLike<number>;
  readonly sources: ArrayLike<number>;
  readonly weights?: ArrayLike<number>;
  /** Default `'sum'`. */
  readonly combine?: 'sum' | 'max';
  /** Default: each output's heaviest source, the lowest index where several are. */
  readonly anchors?: ArrayLike<number>;
  readonly grid?: Grid;
  /** Default none. */
  readonly warnings?: readonly string[];
}

/** What may be said of a plan beside its map. */
export interface PlanNotes {
  /** The grid that the outputs fill, where the method guarantees one. */
  readonly grid?: Grid;
  /** Default none. */
  readonly warnings?: readonly string[];
}

/** One output of {@link mergePlan}: the weighted sum of some input tokens. */
export interface WeightedSources {
  /** Distinct input tokens, in any order. */
  readonly sources: ArrayLike<number>;
  /** One finite weight a source. */
  readonly weights: ArrayLike<number>;
}

/**
 * Checks the parts (see the invariants of {@link ReductionPlan}) and makes a frozen plan with arrays of its
 * own. A runner calls it on the plan of a reducer that it does not know.
 * @throws InvalidPlanError naming the part that is wrong
 */
export function createPlan(parts: PlanParts): ReductionPlan {
  const read = readParts(parts);
  const { inputLength, grid, warnings = [] } = read;
  const offsets = checkOffsets(read.offsets, read.sources.length);
  const outputLength = offsets.length - 1;
  const sources = checkSources(read.sources, offsets, inputLength);
  const given = read.weights && checkWeights(read.weights, sources.length);
  const { combine, weights } = canonical(read.combine ?? 'sum', given, sources.length === outputLength);
  return Object.freeze({
    inputLength,
    outputLength,
    offsets,
    sources,
    ...(weights && { weights }),
    combine,
    anchors: read.anchors
      ? checkAnchors(read.anchors, offsets, sources)
      : heaviestSources(offsets, sources, weights),
    ...(grid && { grid: checkGrid(grid, outputLength) }),
    warnings: Object.freeze(warnings),
  });
}

/**
 * Keeps every one of `length` tokens.
 * @throws InvalidPlanError where length is not a positive integer
 */
export function identityPlan(length: number, notes: PlanNotes = {}): ReductionPlan {
  return selectionPlan(countUp(checkInputLength(length)), length, notes);
}

/**
 * Keeps the tokens `indices`, in that order.
 * @param indices distinct input tokens, at least one
 * @throws InvalidPlanError on an index out of range or taken twice, and on none
 */
export function selectionPlan(
  indices: ArrayLike<number>,
  inputLength: number,
  notes: PlanNotes = {},
): ReductionPlan {
  const offsets = countUp(indices.length + 1);
  const plan = createPlan({ ...notes, inputLength, offsets, sources: indices, anchors: indices });
  if (!isSelection(plan)) throw new InvalidPlanError('a selection must take each token at most once.');
  return plan;
}

/**
 * Each output is a weighted sum of input tokens; its anchor is its heaviest source (ties: the lowest index).
 * @throws InvalidPlanError on an empty output, a source out of range or named twice in one output, a weight
 * that is not finite
 */
export function mergePlan(
  outputs: readonly WeightedSources[],
  inputLength: number,
  notes: PlanNotes = {},
): ReductionPlan {
  const offsets = offsetsOf(outputs.map(({ sources }) => sources.length));
  const sources: number[] = [];
  const weights: number[] = [];
  for (const [index, output] of outputs.entries()) {
    if (output.sources.length !== output.weights.length) {
      throw new InvalidPlanError(
        `output ${index} has ${output.sources.length} sources but ${output.weights.length} weights.`,
      );
    }
    for (const position of ascending(output.sources)) {
      sources.push(output.sources[position]);
      weights.push(output.weights[position]);
    }
  }
  return createPlan({ ...notes, inputLength, offsets, sources, weights });
}

/**
 * Each output is, channel by channel, the greatest value of a group of input tokens; its anchor is the
 * group's lowest index.
 * @throws InvalidPlanError on an empty group, a source out of range or named twice in one group
 */
export function maxPlan(
  groups: readonly ArrayLike<number>[],
  inputLength: number,
  notes: PlanNotes = {},
): ReductionPlan {
  const offsets = offsetsOf(groups.map((group) => group.length));
  const sources = groups.flatMap((group) => ascending(group).map((position) => group[position]));
  return createPlan({ ...notes, inputLength, offsets, sources, combine: 'max' });
}

/** The same plan with more warnings. */
export function withWarnings(plan: ReductionPlan, warnings: readonly string[]): ReductionPlan {
  return Object.freeze({ ...plan, warnings: Object.freeze([...plan.warnings, ...warnings]) });
}

/** Whether every output is one unchanged input token. */
export function picksTokens(plan: ReductionPlan): boolean {
  return plan.combine === 'sum' && !plan.weights;
}

/** Whether every output is one unchanged input token, and none is taken twice: pure pruning. */
export function isSelection(plan: ReductionPlan): boolean {
  if (!picksTokens(plan)) return false;
  const taken = new Uint8Array(plan.inputLength);
  for (const source of plan.sources) {
    if (taken[source]) return false;
    taken[source] = 1;
  }
  return true;
}

/** Whether the outputs are the inputs, in their order. */
export function isIdentity(plan: ReductionPlan): boolean {
  return (
    picksTokens(plan) &&
    plan.outputLength === plan.inputLength &&
    plan.sources.every((source, output) => source === output)
  );
}

/** 0, 1, 2 ... */
function countUp(length: number): Uint32Array {
  const numbers = new Uint32Array(length);
  for (let i = 0; i < length; i++) numbers[i] = i;
  return numbers;
}

function offsetsOf(lengths: readonly number[]): number[] {
  const offsets = [0];
  for (const length of lengths) offsets.push(offsets[offsets.length - 1] + length);
  return offsets;
}

/** Positions of `values` in ascending order of the values. */
function ascending(values: ArrayLike<number>): number[] {
  const positions: number[] = [];
  for (let position = 0; position < values.length; position++) positions.push(position);
  return positions.sort((a, b) => values[a] - values[b]);
}

/**
 * Whatever a reducer returned may come here. Each part is read once, into memory that nobody else can write,
 * so that what is checked is what goes into the plan.
 */
function readParts(parts: PlanParts): PlanParts {
  try {
    return copyParts(parts);
  } catch (error) {
    if (InvalidPlanError.isInstance(error)) throw error;
    throw new InvalidPlanError('a plan must be plain data; an error was thrown while it was read.', {
      cause: error,
    });
  }
}

function copyParts(parts: PlanParts): PlanParts {
  if (typeof parts !== 'object' || (parts as unknown) === null) {
    throw new InvalidPlanError(
      `a plan must be an object, as selectionPlan() and mergePlan() make it; received ${typeName(parts)}.`,
    );
  }
  const { inputLength, offsets, sources, weights, combine = 'sum', anchors, grid, warnings = [] } = parts;
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- may be anything
  if (combine !== 'sum' && combine !== 'max') throw new InvalidPlanError("combine must be 'sum' or 'max'.");
  return {
    inputLength: checkInputLength(inputLength),
    offsets: copyNumbers('offsets', offsets),
    sources: copyNumbers('sources', sources),
    ...(weights !== undefined && { weights: copyNumbers('weights', weights) }),
    combine,
    ...(anchors !== undefined && { anchors: copyNumbers('anchors', anchors) }),
    ...(grid !== undefined && { grid: copyGrid(grid) }),
    warnings: copyTexts('warnings', warnings),
  };
}

function copyNumbers(name: string, list: ArrayLike<number>): ArrayLike<number> {
  if (list instanceof Uint32Array) return new Uint32Array(list);
  if (list instanceof Float32Array) return new Float32Array(list);
  const values: unknown[] = Array.from(checkList(name, list));
  if (values.every((value) => typeof value === 'number')) return values;
  throw new InvalidPlanError(`${name} must hold numbers.`);
}

function copyTexts(name: string, list: readonly string[]): string[] {
  const values: unknown[] = Array.from(checkList(name, list));
  if (values.every((value) => typeof value === 'string')) return values;
  throw new InvalidPlanError(`${name} must be strings.`);
}

function checkList<List>(name: string, list: List): List {
  if (Array.isArray(list) || ArrayBuffer.isView(list)) return list;
  throw new InvalidPlanError(`${name} must be an array; received ${typeName(list)}.`);
}

function copyGrid(grid: Grid): Grid {
  const { rows, columns } = Object(grid) as Partial<Grid>;
  if (typeof rows === 'number' && typeof columns === 'number') return { rows, columns };
  throw new InvalidPlanError('grid must be { rows, columns }.');
}

function typeName(value: unknown): string {
  return value === null ? 'null' : typeof value;
}

function checkInputLength(length: number): number {
  if (Number.isInteger(length) && length >= 1 && length < 2 ** 32) return length;
  throw new InvalidPlanError(`inputLength must be a positive integer; received ${String(length)}.`);
}

/**
 * The numbers in an array of this package's own, and the first place whose number is no integer of 32 bits;
 * -1 where all are.
 */
function toIntegers(values: ArrayLike<number>): { integers: Uint32Array; wrong: number } {
  const integers = new Uint32Array(values);
  return {
    integers,
    wrong:
      values instanceof Uint32Array ? -1 : integers.findIndex((integer, place) => integer !== values[place]),
  };
}

function checkOffsets(values: ArrayLike<number>, sourceCount: number): Uint32Array {
  if (values.length < 2)
    throw new InvalidPlanError('offsets must hold at least one output: nothing was kept.');
  if (values[0] !== 0 || values[values.length - 1] !== sourceCount) {
    throw new InvalidPlanError(
      `offsets must run from 0 to the ${sourceCount} sources; received ${values[0]} to ${values[values.length - 1]}.`,
    );
  }
  const { integers: offsets, wrong } = toIntegers(values);
  for (let m = 1; m < offsets.length; m++) {
    if (m === wrong || offsets[m] <= offsets[m - 1]) {
      throw new InvalidPlanError(
        `offsets must ascend, as every output needs a source; received ${values[m - 1]}, ${values[m]} for output ${m - 1}.`,
      );
    }
  }
  return offsets;
}

function checkSources(values: ArrayLike<number>, offsets: Uint32Array, inputLength: number): Uint32Array {
  const { integers: sources, wrong } = toIntegers(values);
  for (let m = 0; m + 1 < offsets.length; m++) {
    let previous = -1;
    for (let e = offsets[m]; e < offsets[m + 1]; e++) {
      const source = sources[e];
      if (e === wrong || source >= inputLength) {
        throw new InvalidPlanError(
          `sources of output ${m} must be integers in [0, ${inputLength}); received ${values[e]}.`,
        );
      }
      if (source <= previous) {
        throw new InvalidPlanError(`sources of output ${m} must ascend; received ${previous}, ${source}.`);
      }
      previous = source;
    }
  }
  return sources;
}

function checkWeights(values: ArrayLike<number>, sourceCount: number): Float32Array {
  if (values.length !== sourceCount) {
    throw new InvalidPlanError(`weights must be one a source; received ${values.length} for ${sourceCount}.`);
  }
  const weights = new Float32Array(values);
  const wrong = weights.findIndex((weight) => !Number.isFinite(weight));
  if (wrong >= 0)
    throw new InvalidPlanError(`weights must be finite; received ${values[wrong]} at ${wrong}.`);
  return weights;
}

/**
 * The one way to write a map: 'max' only where an output has several sources, no weights where each output is
 * one unchanged token.
 */
function canonical(
  combine: 'sum' | 'max',
  weights: Float32Array | undefined,
  single: boolean, // one source an output
): Pick<ReductionPlan, 'combine' | 'weights'> {
  if (combine === 'max' && weights)
    throw new InvalidPlanError("weights must be absent where combine is 'max'.");
  if (combine === 'max' && !single) return { combine };
  if (!weights && !single) {
    throw new InvalidPlanError(
      "weights must be there where an output has several sources and combine is 'sum'.",
    );
  }
  const unchanged = !weights || (single && weights.every((weight) => weight === 1));
  return { combine: 'sum', ...(!unchanged && { weights }) };
}

function checkAnchors(values: ArrayLike<number>, offsets: Uint32Array, sources: Uint32Array): Uint32Array {
  if (values.length !== offsets.length - 1) {
    throw new InvalidPlanError(
      `anchors must be one an output; received ${values.length} for ${offsets.length - 1}.`,
    );
  }
  const { integers: anchors, wrong } = toIntegers(values);
  for (let m = 0; m < anchors.length; m++) {
    let e = offsets[m];
    while (e < offsets[m + 1] && sources[e] !== anchors[m]) e++;
    if (m === wrong || e === offsets[m + 1]) {
      throw new InvalidPlanError(`anchors must be sources of their outputs; output ${m} has ${values[m]}.`);
    }
  }
  return anchors;
}

function heaviestSources(offsets: Uint32Array, sources: Uint32Array, weights?: Float32Array): Uint32Array {
  const anchors = new Uint32Array(offsets.length - 1);
  for (let m = 0; m < anchors.length; m++) {
    let heaviest = offsets[m];
    for (let e = offsets[m] + 1; weights && e < offsets[m + 1]; e++) {
      if (weights[e] > weights[heaviest]) heaviest = e;
    }
    anchors[m] = sources[heaviest];
  }
  return anchors;
}

function checkGrid({ rows, columns }: Grid, outputLength: number): Grid {
  if (!(Number.isInteger(rows) && Number.isInteger(columns) && rows > 0 && rows * columns === outputLength)) {
    throw new InvalidPlanError(
      `grid must hold the ${outputLength} outputs; received ${rows} rows of ${columns} columns.`,
    );
  }
  return Object.freeze({ rows, columns });
}
