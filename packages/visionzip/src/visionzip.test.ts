import { reducerConformance } from '@foveate/core/testing';
import { describe, test } from 'vitest';
import { visionzip } from './visionzip.js';
describe('conforms', () => {
  const cases = reducerConformance({ create: visionzip, selects: false, ascending: false });
  for (const { name, run } of cases) test(name, run);
});
