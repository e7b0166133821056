/** Clustering by density peaks, on distances alone. */
import { topIndices } from '@foveate/core';

/** Places among the points. */
export interface Cluster {
  readonly centre: number;
  /** Ascending, the centre included. */
  readonly members: readonly number[];
}

/**
 * Groups points around those that are dense and far from denser ones (Rodriguez and Laio 2014, with the k
 * nearest as DPC-KNN has it; official code: `cluster_and_merge` in utils.py). A point's density is exp(-mean
 * of its squared distances to the `count` nearest, itself included) + noise; its distance that to the nearest
 * denser point, the greatest of all for the densest. Of equally dense points the lower counts as denser. The
 * `count` points of the greatest product are the centres; each other point goes to the nearest centre.
 * @param distances [n, n]
 * @param count clusters, in [1, n]
 * @param noise [n] what is added to the densities
 * @returns in the order of their centres' products, greatest first
 */
export function densityPeaks(
  distances: readonly Float64Array[],
  count: number,
  noise: ArrayLike<number>,
): Cluster[] {
  const densities = distances.map((row, point) => {
    const nearest = Float64Array.from(row).sort().subarray(0, count);
    return Math.exp(-nearest.reduce((sum, distance) => sum + distance ** 2, 0) / count) + noise[point];
  });
  const greatest = Math.max(...distances.map((row) => Math.max(...row)));
  const products = distances.map((row, point) => {
    const toDenser = row.filter((_, other) => isDenser(densities, other, point));
    return densities[point] * Math.min(greatest, ...toDenser);
  });
  return assign(distances, topIndices(products, count));
}

function isDenser(densities: readonly number[], other: number, point: number): boolean {
  if (densities[other] === densities[point]) return other < point;
  return densities[other] > densities[point];
}

/** Each point to its nearest centre, of equally near ones the first; centres to themselves. */
function assign(distances: readonly Float64Array[], centres: Uint32Array): Cluster[] {
  const clusters = Array.from(centres, (centre) => ({ centre, members: [] as number[] }));
  for (const point of distances.keys()) {
    const own = centres.indexOf(point);
    const nearest = centres.reduce(
      (best, centre, cluster) =>
        distances[centre][point] < distances[centres[best]][point] ? cluster : best,
      0,
    );
    clusters[own >= 0 ? own : nearest].members.push(point);
  }
  return clusters;
}
