import { describe, test } from 'vitest';
import { referenceBackend } from './reference-backend.js';
import { backendConformance } from './testing/index.js';

describe('the reference backend conforms', () => {
  for (const { name, run } of backendConformance({ create: () => referenceBackend })) test(name, run);
});
