import { describe, expect, it } from 'vitest';
import { registry } from './registry.js';

describe.each(registry.entries)('$name', (entry) => {
  it('is the name of what it makes', () => {
    expect(entry.create().name).toBe(entry.name);
  });

  it.each(entry.options.filter((option) => option.default !== ''))('takes $name=$default', (option) => {
    expect(entry.create({ [option.name]: option.default }).requires).toEqual(entry.create().requires);
  });

  it.each(entry.options.filter((option) => option.values.includes(' | ')))(
    'takes $values as $name',
    (option) => {
      for (const value of option.values.split(' | '))
        expect(entry.create({ [option.name]: value }).name).toBe(entry.name);
    },
  );
});
