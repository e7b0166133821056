import { describe, expect, it } from 'vitest';
import { densityPeaks } from './density-peaks.js';

/** Points on a line. */
function cluster(
  points: readonly number[],
  count: number,
  noise: readonly number[] = points.map(() => 0),
): object[] {
  const distances = points.map((point) => Float64Array.from(points, (other) => Math.abs(point - other)));
  return densityPeaks(distances, count, noise);
}

describe('densityPeaks', () => {
  it('takes for centres what is dense and far from denser points, and each other point to its nearest', () => {
    // Densities, exp(-mean squared distance to the 3 nearest, itself among them), times the distance to the
    // nearest denser point; 30 is the greatest of all.
    //    0: e^-((1 + 4.41) / 3) * 1      = 0.165
    //    1: e^-((1 + 1.21) / 3) * 30     = 14.4, the densest
    //  2.1: e^-((1.21 + 4.41) / 3) * 1.1 = 0.169
    //   10: e^-((1 + 6.25) / 3) * 1      = 0.089
    //   11: e^-((1 + 2.25) / 3) * 8.9    = 3.0
    // 12.5: e^-((2.25 + 6.25) / 3) * 1.5 = 0.088
    //   30: e^-((306 + 361) / 3) * 17.5  = 0
    expect(cluster([0, 1, 2.1, 10, 11, 12.5, 30], 3)).toEqual([
      { centre: 1, members: [0, 1] },
      { centre: 4, members: [3, 4, 5, 6] },
      { centre: 2, members: [2] },
    ]);
  });

  it('counts a point among its own nearest', () => {
    // e^(-0.25 / 2) * 4, e^(-0.25 / 2) * 0.5, e^(-1 / 2) * 2.5, e^(-1 / 2) * 1; by two others 0.5 would be
    // the densest, e^(-6.5 / 2), and a centre.
    expect(cluster([0, 0.5, 3, 4], 2)).toEqual([
      { centre: 0, members: [0, 1] },
      { centre: 2, members: [2, 3] },
    ]);
  });

  it('takes the lower of equally dense points for the denser, unless noise says otherwise', () => {
    expect(cluster([0, 1, 10, 11], 2)).toEqual([
      { centre: 0, members: [0, 1] }, // e^(-1/2) * 11
      { centre: 2, members: [2, 3] }, // e^(-1/2) * 9, to the point at 1
    ]);
    expect(cluster([0, 1, 10, 11], 2, [0, 0, 0, 1e-6])).toEqual([
      { centre: 3, members: [2, 3] }, // now the densest
      { centre: 0, members: [0, 1] }, // as dense as 1, lower, 11 from the densest and 10 from 2
    ]);
  });

  it('keeps centres to themselves, even where another one stands on them', () => {
    expect(cluster([1, 1, 1], 2)).toEqual([
      { centre: 0, members: [0, 2] },
      { centre: 1, members: [1] },
    ]);
  });

  it('makes one cluster of one point, and one of all', () => {
    expect(cluster([7], 1)).toEqual([{ centre: 0, members: [0] }]);
    expect(cluster([7, 3, 8], 1)).toEqual([{ centre: 0, members: [0, 1, 2] }]);
  });
});
