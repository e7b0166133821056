/**
 * From an image's crops to the rows that the language model reads of it: what stands for padding is left out
 * before, the family's own rows come in behind.
 */
import type { Size } from '../bundle/preprocessing.js';
import { familyOf } from '../families/index.js';
import type { CropArrangement, FamilySettings } from '../families/family.js';
import type { Features, ReducedCrop } from './api.js';

/** What the language model reads in one place. */
export interface EmbeddingRow {
  /** [D] */
  readonly values: Float32Array;
  /**
   * Of a visual token its crop, and its number among the crop's tokens that are left; null for a row of the
   * family's own, which is read as text is.
   */
  readonly origin: { readonly crop: number; readonly token: number } | null;
}

/** The features of the tokens that do not stand for padding. */
export function leftOf(features: Features, left: CropArrangement['left']): Features {
  if (!left) return features;
  const width = features.data.length / features.length;
  const data = new Float32Array(left.length * width);
  for (const [i, token] of left.entries()) {
    data.set(features.data.subarray(token * width, (token + 1) * width), i * width);
  }
  return { data, length: left.length };
}

/**
 * The rows of an image.
 * @param crops what the language model can read of each, and the plans behind it that changed anything
 * @throws BundleError where config.json lacks a row of the family's own
 */
export function imageRows(
  { size }: { readonly size: Size },
  crops: readonly ReducedCrop[],
  family: FamilySettings,
): EmbeddingRow[] {
  const reduced = crops.some(({ plans }) => plans.length > 0);
  const rows = familyOf(family).layOut({ size, crops: crops.map(placesOf), reduced }, family);
  return rows.map((row) => {
    if ('embedding' in row) return { values: Float32Array.from(row.embedding), origin: null };
    const { data, length } = crops[row.crop].features;
    const width = data.length / length;
    return { values: data.subarray(row.token * width, (row.token + 1) * width), origin: row };
  });
}

/** Where the outputs of a crop's plans stand among its tokens. */
function placesOf({ features, plans }: ReducedCrop): readonly number[] {
  const [first, ...later] = plans;
  if (plans.length === 0) return Array.from({ length: features.length }, (_, token) => token);
  return later.reduce(
    (places, { anchors }) => Array.from(anchors, (anchor) => places[anchor]),
    Array.from(first.anchors),
  );
}
