import { describe, expect, it } from 'vitest';
import { countTests } from './test-counts.js';

const file = (status, ...tests) => ({ status, assertionResults: tests.map((each) => ({ status: each })) });

describe('countTests', () => {
  it('adds the tests of all files and reports', () => {
    const first = { testResults: [file('passed', 'passed', 'passed'), file('failed', 'passed', 'failed')] };
    const second = { testResults: [file('passed', 'passed', 'skipped', 'pending', 'todo')] };
    expect(countTests([first, second])).toEqual({ passed: 4, failed: 1, skipped: 3 });
  });

  it('counts a file that could not be loaded as a failure', () => {
    expect(countTests([{ testResults: [file('failed')] }])).toEqual({ passed: 0, failed: 1, skipped: 0 });
  });

  it('counts a file whose hook failed after its tests passed as a failure', () => {
    expect(countTests([{ testResults: [file('failed', 'passed')] }])).toEqual({
      passed: 1,
      failed: 1,
      skipped: 0,
    });
  });

  it('is zero where nothing ran', () => {
    expect(countTests([])).toEqual({ passed: 0, failed: 0, skipped: 0 });
  });
});
