import { describe, expect, it } from 'vitest';
import { bumpProblems, rangeProblems, versionsAfter, withVersion } from './versions.js';

/** core <- method <- app, and apart from them graph; the versions as after a first release. */
const released = [
  { name: 'core', version: '0.1.0' },
  { name: 'method', version: '0.1.0', dependencies: { core: '^0.1.0', other: '^3.0.0' } },
  { name: 'app', version: '0.1.0', dependencies: { method: '^0.1.0' }, devDependencies: { core: '^0.1.0' } },
  { name: 'graph', version: '0.1.0' },
];
const versions = (manifests) => new Map(manifests.map(({ name, version }) => [name, version]));

describe('withVersion', () => {
  it('gives the version to the package and to its ranges of siblings, and leaves the rest', () => {
    const manifest = {
      ...released[1],
      license: 'Apache-2.0',
      peerDependencies: { core: '^0.1.0', peer: '1' },
    };
    expect(withVersion(manifest, '0.0.0-check.7', new Set(['core', 'method']))).toEqual({
      name: 'method',
      version: '0.0.0-check.7',
      license: 'Apache-2.0',
      dependencies: { core: '0.0.0-check.7', other: '^3.0.0' },
      peerDependencies: { core: '0.0.0-check.7', peer: '1' },
    });
    expect(manifest.version).toBe('0.1.0');
  });
});

describe('versionsAfter', () => {
  it.each([
    ['patch', { core: '0.1.1', method: '0.1.0', app: '0.1.0', graph: '0.1.0' }],
    // ^0.1.0 does not take in 0.2.0, so method is released again; its 0.1.1 is within ^0.1.0.
    ['minor', { core: '0.2.0', method: '0.1.1', app: '0.1.0', graph: '0.1.0' }],
    ['major', { core: '1.0.0', method: '0.1.1', app: '0.1.0', graph: '0.1.0' }],
  ])('a %s change of core', (level, expected) => {
    expect(Object.fromEntries(versionsAfter(released, 'core', level))).toEqual(expected);
  });

  it('a minor change from 1.0.0 on stays within the ranges', () => {
    const stable = [
      { name: 'core', version: '1.0.0' },
      { name: 'method', version: '1.0.0', dependencies: { core: '^1.0.0' } },
    ];
    expect(Object.fromEntries(versionsAfter(stable, 'core', 'minor'))).toEqual({
      core: '1.1.0',
      method: '1.0.0',
    });
  });

  it('goes on where a released dependent leaves a range itself', () => {
    const exact = released.map((each) =>
      each.name === 'app' ? { ...each, dependencies: { method: '0.1.0' } } : each,
    );
    expect(versionsAfter(exact, 'core', 'minor').get('app')).toBe('0.1.1');
  });
});

describe('bumpProblems', () => {
  const after = (changes) =>
    released.map((each) => ({ ...each, version: changes[each.name] ?? each.version }));
  const change = { before: released, name: 'core', level: 'minor' };

  it('accepts the versions that follow', () => {
    expect(bumpProblems({ ...change, after: after({ core: '0.2.0', method: '0.1.1' }) })).toEqual([]);
  });

  it.each([
    ['a dependent left behind', { core: '0.2.0' }, 'method'],
    ['a package that has nothing to do with it', { core: '0.2.0', method: '0.1.1', graph: '0.1.1' }, 'graph'],
    ['too small a step', { core: '0.1.1', method: '0.1.1' }, 'core'],
  ])('finds: %s', (_, changes, name) => {
    const problems = bumpProblems({ ...change, after: after(changes) });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(`took ${name} from`);
  });
});

describe('rangeProblems', () => {
  it('finds ranges that do not take in what is beside them', () => {
    expect(rangeProblems(released, versions(released))).toEqual([]);
    expect(rangeProblems(released, new Map([['core', '0.2.0']]))).toEqual([
      'method depends on core ^0.1.0, which is 0.2.0',
    ]);
  });
});
