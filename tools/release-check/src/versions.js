import semver from 'semver';

/**
 * Versions and the ranges between packages of this repository.
 *
 * @typedef {{ name: string, version: string, dependencies?: Record<string, string>,
 *   peerDependencies?: Record<string, string>, devDependencies?: Record<string, string> }} Manifest
 */

/**
 * A manifest under a version that every package of the repository gets, with the ranges between them set to
 * it.
 *
 * @template {Manifest} T
 * @param {T} manifest
 * @param {string} version
 * @param {Set<string>} internal the names of the repository's packages
 * @returns {T}
 */
export function withVersion(manifest, version, internal) {
  const ranges = Object.fromEntries(
    /** @type {const} */ (['dependencies', 'peerDependencies', 'devDependencies'])
      .filter((kind) => manifest[kind] !== undefined)
      .map((kind) => [
        kind,
        Object.fromEntries(
          Object.entries(manifest[kind] ?? {}).map(([name, range]) => [
            name,
            internal.has(name) ? version : range,
          ]),
        ),
      ]),
  );
  return { ...manifest, ...ranges, version };
}

/**
 * The versions that follow from a change of one package, as changesets gives them: whoever depends on a
 * package by a range that its new version leaves is released again, as a patch.
 *
 * @param {Manifest[]} manifests
 * @param {string} name the package that changed
 * @param {'patch' | 'minor' | 'major'} level
 * @returns {Map<string, string>} package -> version, of all packages
 */
export function versionsAfter(manifests, name, level) {
  const versions = new Map(manifests.map((each) => [each.name, each.version]));
  const release = (/** @type {string} */ each, /** @type {'patch' | 'minor' | 'major'} */ by) =>
    versions.set(each, semver.inc(versions.get(each) ?? '', by) ?? '');
  release(name, level);
  for (let done = new Set([name]), size = 0; size < done.size;) {
    size = done.size;
    for (const manifest of manifests) {
      if (done.has(manifest.name) || rangeProblems([manifest], versions).length === 0) continue;
      release(manifest.name, 'patch');
      done.add(manifest.name);
    }
  }
  return versions;
}

/**
 * What is wrong with the versions after a change of one package.
 *
 * @param {object} change
 * @param {Manifest[]} change.before
 * @param {Manifest[]} change.after
 * @param {string} change.name the package that changed
 * @param {'patch' | 'minor' | 'major'} change.level
 * @returns {string[]}
 */
export function bumpProblems({ before, after, name, level }) {
  const wanted = versionsAfter(before, name, level);
  return after
    .filter((manifest) => manifest.version !== wanted.get(manifest.name))
    .map((manifest) => {
      const old = before.find((each) => each.name === manifest.name)?.version;
      return `a ${level} change of ${name} took ${manifest.name} from ${old} to ${manifest.version}; expected ${wanted.get(manifest.name)}`;
    });
}

/**
 * The ranges between packages of the repository that do not take in the version beside them.
 *
 * @param {Manifest[]} manifests
 * @param {Map<string, string>} versions package -> version, of all packages
 * @returns {string[]}
 */
export function rangeProblems(manifests, versions) {
  return manifests.flatMap((manifest) =>
    Object.entries({ ...manifest.dependencies, ...manifest.peerDependencies }).flatMap(([name, range]) => {
      const version = versions.get(name);
      return version === undefined || semver.satisfies(version, range)
        ? []
        : [`${manifest.name} depends on ${name} ${range}, which is ${version}`];
    }),
  );
}
