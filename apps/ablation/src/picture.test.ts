import path from 'node:path';
import { atFeatures, identityPlan, maxPlan, selectionPlan, type ReductionPlan } from '@foveate/core';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../test/run.js';
import { drawKept, reachingTokens, type LocatedCrop } from './picture.js';

/** A report on a 2 x 2 grid over the whole image, unless told otherwise. */
function report(plans: readonly ReductionPlan[], changes: Partial<LocatedCrop> = {}): LocatedCrop {
  return {
    grid: { rows: 2, columns: 2 },
    region: { left: 0, top: 0, width: 1, height: 1 },
    inputTokens: 4,
    outputTokens: plans.at(-1)?.outputLength ?? 4,
    steps: plans.map((plan) => ({
      site: atFeatures,
      reducer: 'r',
      inputTokens: plan.inputLength,
      outputTokens: plan.outputLength,
      kept: null,
      plan,
    })),
    ...changes,
  };
}

describe('reachingTokens', () => {
  it.each<[string, ReductionPlan[], boolean[]]>([
    ['no step', [], [true, true, true, true]],
    ['a selection', [selectionPlan([3, 1], 4)], [false, true, false, true]],
    ['two selections', [selectionPlan([3, 1, 0], 4), selectionPlan([0, 2], 3)], [true, false, false, true]],
    ['a merge', [maxPlan([[0, 2], [1]], 4)], [true, true, true, false]],
    [
      'a merge, then a selection',
      [
        maxPlan(
          [
            [0, 2],
            [1, 3],
          ],
          4,
        ),
        selectionPlan([1], 2),
      ],
      [false, true, false, true],
    ],
    ['the identity', [identityPlan(4)], [true, true, true, true]],
  ])('%s', (_, plans, expected) => {
    expect(reachingTokens(report(plans))).toEqual(expected);
  });
});

describe('drawKept', () => {
  /** Brightness of a white image of that size after drawing, at places in shares of its sides. */
  async function drawn(
    width: number,
    height: number,
    located: LocatedCrop,
    places: readonly [x: number, y: number][],
  ): Promise<{ values: number[]; width: number; height: number }> {
    const file = path.join(await temporaryFolder(), 'white.png');
    await sharp({ create: { width, height, channels: 3, background: 'white' } })
      .png()
      .toFile(file);
    const { data, info } = await sharp(await drawKept(file, [located]))
      .raw()
      .toBuffer({ resolveWithObject: true });
    const at = ([x, y]: [number, number]): number =>
      data[(Math.floor(y * info.height) * info.width + Math.floor(x * info.width)) * info.channels];
    return { values: places.map(at), width: info.width, height: info.height };
  }
  const quarters: [number, number][] = [
    [0.25, 0.25],
    [0.75, 0.25],
    [0.25, 0.75],
    [0.75, 0.75],
  ];
  const LIT = 255;
  const DIM = Math.round(255 * 0.25);

  it('dims what was dropped, patch by patch', async () => {
    const { values, width, height } = await drawn(40, 20, report([selectionPlan([1, 2], 4)]), quarters);
    expect(values.map((value) => Math.abs(value - DIM) <= 1)).toEqual([true, false, false, true]);
    expect(values[1]).toBe(LIT);
    // 512 / 40 = 12.8: thirteen times as large.
    expect({ width, height }).toEqual({ width: 520, height: 260 });
  });

  it('has sharp edges between patches', async () => {
    const { values } = await drawn(512, 512, report([selectionPlan([0], 4)]), [
      [255 / 512, 255 / 512],
      [256 / 512, 255 / 512],
      [255 / 512, 256 / 512],
    ]);
    expect(values[0]).toBe(LIT);
    expect(values[1]).toBeLessThan(DIM + 2);
    expect(values[2]).toBeLessThan(DIM + 2);
  });

  it('dims what the encoder never saw', async () => {
    // The middle half of a wide image was cropped; all of it was kept.
    const cropped = report([], { region: { left: 0.25, top: 0, width: 0.5, height: 1 } });
    const { values } = await drawn(1024, 512, cropped, [
      [0.2, 0.5],
      [0.26, 0.5],
      [0.74, 0.5],
      [0.8, 0.5],
    ]);
    expect(values.map((value) => value === LIT)).toEqual([false, true, true, false]);
  });

  it('stands the image upright, as the encoder saw it', async () => {
    const file = path.join(await temporaryFolder(), 'turned.jpg');
    // Stored lying, to be turned by a quarter: 30 x 60 becomes 60 x 30.
    await sharp({ create: { width: 30, height: 60, channels: 3, background: 'white' } })
      .withMetadata({ orientation: 6 })
      .jpeg()
      .toFile(file);
    const { width, height } = await sharp(await drawKept(file, [report([])])).metadata();
    expect(width).toBe(2 * height);
  });
});
