import { describe, expect, it } from 'vitest';
import { foveateHere } from '../test/run.js';
import { presets } from './presets.js';
import { registry } from './registry.js';
import { createReducers } from './spec.js';

const fixed = presets.flatMap((preset) => (preset.specs ? [{ ...preset, specs: preset.specs }] : []));

describe.each(fixed)('$name', ({ specs, labels, paper }) => {
  it('has rows that can be made, each once, none first', () => {
    expect(specs[0]).toBe('none');
    expect(new Set(specs).size).toBe(specs.length);
    for (const spec of specs.slice(1)) expect(createReducers(registry, spec)).not.toEqual([]);
  });

  it('names and cites rows that are there, and every cell of a row', () => {
    expect(specs).toEqual(expect.arrayContaining([...labels.keys()]));
    for (const { columns, rows } of paper) {
      for (const { specs: cited, cells } of rows) {
        expect(specs).toEqual(expect.arrayContaining([...cited]));
        expect(cells).toHaveLength(columns.length);
      }
    }
  });
});

describe('the paper', () => {
  it('printed averages that are those of their cells, but for the one that is noted', () => {
    const table4 = presets.find(({ name }) => name === 'table4')!.paper;
    const wrong = table4.flatMap(({ model, rows }) =>
      rows
        .filter(({ cells }) => {
          const sum = cells.slice(0, 7).reduce((total: number, cell) => total + cell!, 0);
          return Math.abs(sum / 7 - cells[7]!) > 0.011;
        })
        .map(({ method }) => `${model}, ${method}`),
    );
    expect(wrong).toEqual(['LLaVA-1.6-13B, FoPru rank 50 %']);
  });

  it('gives each speed-up as the ratio of its times, to their rounding', () => {
    const [{ rows }] = presets.find(({ name }) => name === 'table2')!.paper;
    const [{ cells: none }] = rows;
    for (const { cells } of rows.slice(1)) {
      expect(Math.abs(none[9]! / cells[9]! - cells[10]!)).toBeLessThan(0.02); // TPOT
      expect(Math.abs(none[7]! / cells[7]! - cells[8]!)).toBeLessThan(0.04); // TTFT, in whole ms
    }
  });
});

describe('the table of RESTORE', () => {
  const [table] = presets.find(({ name }) => name === 'methods')!.paper;
  const [{ cells: all }, ...reduced] = table.rows;

  it('has a cell for each column, and each method at the three budgets', () => {
    for (const { cells } of table.rows) expect(cells).toHaveLength(table.columns.length);
    const found = reduced.map(({ ranked }) => `${ranked?.method} ${ranked?.tokens}`);
    expect(new Set(found).size).toBe(21);
    expect([...new Set(reduced.map(({ ranked }) => ranked?.tokens))]).toEqual([192, 128, 64]);
  });

  it('printed averages that are the mean shares of its cells, to their rounding', () => {
    for (const { method, cells } of reduced) {
      const shares = cells.slice(1).map((cell, index) => (100 * cell!) / all[index + 1]!);
      const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
      expect(Math.abs(mean - cells[0]!), method).toBeLessThan(0.11);
    }
  });
});

describe('figure5', () => {
  it.each([256, 576])('keeps the numbers of tokens of the paper, or their shares of %i', async (length) => {
    const { specs } = fixed.find(({ name }) => name === 'figure5')!;
    const counts = specs.flatMap((spec) => {
      const keep = /^fopru-rank:keep=(.*)$/.exec(spec)?.[1];
      return keep === undefined ? [] : [Math.max(1, Math.floor(length * Number(keep) + 1e-9))];
    });
    expect(counts).toEqual(
      [1, 16, 36, 64, 100, 144, 288, 432].map((count) => Math.round((count * length) / 576) || 1),
    );
  });
});

describe('foveate ablate --preset', () => {
  it.each([
    [['--preset', 'table9'], 'Allowed choices are table2, table3, table4, figure5, methods'],
    [
      ['--preset', 'table2', '--keep', '0.5'],
      "'--preset <name>' cannot be used with option '--keep <ratios>'",
    ],
    [['--reducers', 'none', '--preset', 'table2'], "cannot be used with option '--reducers <specs>'"],
    [['--reducers', 'fastv:layer=0'], 'layer'],
    [['--reducers', 'prumerge:keep=2'], 'keep must be'],
    [['--reducers', 'fopru-rank:keep=0.5+fastvv'], 'fastvv'],
  ])('%j: exit code 2', async (args, message) => {
    const { code, stdout, stderr } = await foveateHere(['ablate', ...args]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(message);
  });
});
