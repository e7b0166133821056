/**
 * Merges the most similar tokens of a layer inside a graph, as ToMe does (Bolya et al., arXiv 2210.09461,
 * section 3): bipartite soft matching, sums weighted by how many patches a token stands for.
 */
import { TensorProto_DataType as DataType } from 'onnx-buf';
import type { GraphEditor } from './graph-editor.js';

const FLOAT: number = DataType.FLOAT;

/** The tokens of one image between the attention and the MLP of a layer: p prefix tokens, n patches. */
export interface LayerTokens {
  /** [1, p + n, D] */
  readonly hidden: string;
  /** Its element type (TensorProto.DataType). */
  readonly type: number;
  /** [1, p + n, d] what is compared. */
  readonly metric: string;
  /** Which patches they stand for. */
  readonly groups: TokenGroups;
}

/** Which of the encoder's N patches its n tokens stand for. */
export interface TokenGroups {
  /** [n] (float32) how many each stands for. */
  readonly sizes: string;
  /** [N] (int64) for each patch the token that stands for it. */
  readonly owners: string;
}

/** Each of `patches` (a vector of one int64) on its own. */
export function ungrouped(editor: GraphEditor, patches: string): TokenGroups {
  return {
    sizes: editor.add('Expand', [editor.float([1]), patches]),
    owners: editor.range(editor.ints([0]), patches),
  };
}

/**
 * What each token's score is raised by, so that one of several patches weighs as much as they did: log(size),
 * 0 for prefix tokens. [p + n]
 */
export function logSizes(editor: GraphEditor, sizes: string, prefixTokens: number): string {
  const logs = editor.add('Log', [sizes]);
  if (prefixTokens === 0) return logs;
  const zeros = editor.float(Array<number>(prefixTokens).fill(0), [prefixTokens]);
  return editor.add('Concat', [zeros, logs], { axis: 0 });
}

/**
 * Merges `count` patches (a vector of one int64; half of them at most) into others. Of each two tokens in
 * turn, prefix tokens counted, the first may be merged into any second one, and prefix tokens take no part.
 * Behind it come the prefix tokens, the first ones that are left, the second ones; the first ones ascending
 * or, without prefix tokens, the most similar first. With nothing to merge all stay as they are.
 */
export function mergePatches(
  editor: GraphEditor,
  { hidden, type, metric, groups: { sizes, owners } }: LayerTokens,
  prefixTokens: number,
  count: string,
): { hidden: string; groups: TokenGroups } {
  const all = editor.length(sizes, 0);
  const merged = atMostHalf(editor, count, all);
  const halves = halvesOf(editor, prefixTokens, all, merged);
  const { sources, into, left } = match(editor, metric, prefixTokens, merged, halves);
  const kept = editor.add('Concat', [editor.parted(left, halves.end)[0], halves.otherwise], { axis: 0 });

  const rows = editor.squeeze(type === FLOAT ? hidden : editor.toFloat32(hidden), 0); // [p + n, D]
  const targets = average(editor, { rows, sizes, sources, into, prefixTokens, end: halves.end });
  const prefix = editor.ints(Array.from({ length: prefixTokens }, (_, i) => i));
  const behind = (patches: string): string => editor.add('Add', [patches, editor.ints([prefixTokens])]);
  const staying = prefixTokens === 0 ? kept : editor.add('Concat', [prefix, behind(kept)], { axis: 0 });
  const joined = [editor.add('Gather', [rows, staying]), targets.rows];
  const whole = editor.unsqueeze(editor.add('Concat', joined, { axis: 0 }), 0);
  const result = type === FLOAT ? whole : editor.add('Cast', [whole], { to: type });
  editor.state(result, type, 3);
  const counts = [editor.add('Gather', [sizes, kept]), targets.sizes];
  const map = placesBehind(editor, { all, merged, kept, seconds: halves.seconds, sources, into });
  return {
    hidden: result,
    groups: {
      sizes: editor.add('Concat', counts, { axis: 0 }),
      owners: editor.add('Gather', [map, owners]),
    },
  };
}

/** `count`, from none to half of `all`. */
function atMostHalf(editor: GraphEditor, count: string, all: string): string {
  const half = editor.add('Div', [all, editor.ints([2])]);
  return editor.smaller(editor.larger(count, editor.ints([0])), half);
}

/** The n patches by turns. */
interface Halves {
  /** [a] the first ones. */
  readonly firsts: string;
  /** [b] the second ones; none where nothing is merged. */
  readonly seconds: string;
  /** All of them where nothing is merged. */
  readonly otherwise: string;
  /** Where lists end that are empty where nothing is merged. */
  readonly end: string;
}

function halvesOf(editor: GraphEditor, prefixTokens: number, all: string, merged: string): Halves {
  const [none, last] = [editor.ints([0]), editor.ints([2 ** 31 - 1])];
  const isMerging = editor.add('Less', [none, merged]);
  const end = editor.add('Where', [isMerging, last, none]);
  const numbers = editor.range(none, all);
  return {
    firsts: editor.everyOther(numbers, prefixTokens % 2),
    seconds: editor.everyOther(numbers, (prefixTokens + 1) % 2, end),
    otherwise: editor.parted(numbers, editor.add('Where', [isMerging, none, last]))[0],
    end,
  };
}

/** What is merged into what. */
interface Match {
  /** [r] first ones. */
  readonly sources: string;
  /** [r] the second one of each, by its number among those. */
  readonly into: string;
  /** The first ones that are left. */
  readonly left: string;
}

/** Each first token chooses the second most similar to it; the most similar of all are merged. */
function match(
  editor: GraphEditor,
  metric: string,
  prefixTokens: number,
  merged: string,
  { firsts }: Halves,
): Match {
  const unit = editor.add('LpNormalization', [editor.squeeze(editor.toFloat32(metric), 0)], {
    axis: -1,
    p: 2,
  });
  const [first, second] = [0, 1].map((turn) =>
    editor.everyOther(unit, prefixTokens + ((prefixTokens + turn) % 2)),
  );
  const cosines = editor.add('Gemm', [first, second], { transB: 1 }); // [a, b]
  const scores = prefixTokens % 2 === 0 ? withColumn(editor, cosines) : cosines;
  const best = editor.add('ArgMax', [scores], { axis: 1, keepdims: 0 });
  const highest = editor.reduce('ReduceMax', scores, 1);
  const { indices } = editor.topK(highest, editor.length(highest, 0));
  const [chosen, others] = editor.parted(indices, merged);
  const left = prefixTokens === 0 ? others : ascending(editor, others, editor.length(highest, 0));
  return {
    sources: editor.add('Gather', [firsts, chosen]),
    into: editor.add('Gather', [best, chosen]),
    left: editor.add('Gather', [firsts, left]),
  };
}

/** A single patch that comes first has no second one, and ArgMax wants one: of a cosine below all others. */
function withColumn(editor: GraphEditor, cosines: string): string {
  const shape = editor.add('Concat', [editor.length(cosines, 0), editor.ints([1])], { axis: 0 });
  const column = editor.add('Expand', [editor.float([-2]), shape]);
  return editor.add('Concat', [cosines, column], { axis: 1 });
}

/** Distinct numbers below `end`, sorted. */
function ascending(editor: GraphEditor, numbers: string, end: string): string {
  const ones = editor.fill(1, editor.length(numbers, 0));
  const marked = editor.add('ScatterElements', [editor.fill(0, end), numbers, ones]);
  return editor.reshape(editor.add('NonZero', [marked]), [-1]);
}

/** What {@link average} reads. */
interface Merging extends Omit<Match, 'left'> {
  /** [p + n, D] */
  readonly rows: string;
  /** [n] */
  readonly sizes: string;
  readonly prefixTokens: number;
  readonly end: string;
}

/** The second ones with what is merged into them: [b, D], and how many patches each stands for [b]. */
function average(
  editor: GraphEditor,
  { rows, sizes, sources, into, prefixTokens, end }: Merging,
): { rows: string; sizes: string } {
  const odd = (prefixTokens + 1) % 2;
  const before = editor.everyOther(sizes, odd, end);
  const numbers = editor.range(editor.ints([0]), editor.length(before, 0));
  const pairs = editor.add('Equal', [editor.unsqueeze(numbers, 1), editor.unsqueeze(into, 0)]); // [b, r]
  const weights = editor.add('Mul', [editor.toFloat32(pairs), editor.add('Gather', [sizes, sources])]);
  const behind = editor.add('Add', [before, editor.reduce('ReduceSum', weights, 1)]);
  const total = editor.unsqueeze(behind, 1);
  const own = editor.add('Div', [editor.unsqueeze(before, 1), total]);
  const shares = editor.add('Div', [weights, total]);
  const added = editor.add('Gather', [rows, editor.add('Add', [sources, editor.ints([prefixTokens])])]); // [r, D]
  const targets = editor.everyOther(rows, prefixTokens + odd, end); // [b, D]
  // A product of matrices, and no scattering: operator sets before 16 have none that adds.
  return { rows: editor.add('Gemm', [shares, added, editor.add('Mul', [targets, own])]), sizes: behind };
}

/** [n] for each token its place behind the merge. */
function placesBehind(
  editor: GraphEditor,
  {
    all,
    merged,
    kept,
    seconds,
    sources,
    into,
  }: Omit<Match, 'left'> & {
    readonly all: string;
    readonly merged: string;
    readonly kept: string;
    readonly seconds: string;
  },
): string {
  const places = editor.range(editor.ints([0]), editor.add('Sub', [all, merged]));
  const joined = editor.add('Add', [into, editor.length(kept, 0)]);
  const tokens = editor.add('Concat', [kept, seconds, sources], { axis: 0 });
  const targets = editor.add('Concat', [places, joined], { axis: 0 });
  return editor.add('ScatterElements', [editor.fill(0, all), tokens, targets], { axis: 0 });
}
