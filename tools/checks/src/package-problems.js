import { importProblem } from './import-rules.js';

/** Every published package has these, word for word. */
const common = {
  license: 'Apache-2.0',
  type: 'module',
  sideEffects: false,
  engines: { node: '^20.19.0 || >=22.12.0' },
  publishConfig: { access: 'public', provenance: true },
};

const scripts = ['build', 'check', 'lint', 'test', 'typecheck'];

/**
 * What is wrong with a package.json of this repository: it must look like its siblings, and depend on nothing
 * that its code may not import.
 *
 * @param {any} manifest
 * @returns {string[]}
 */
export function manifestProblems(manifest) {
  const problems = [];
  for (const [key, value] of Object.entries(common)) {
    if (JSON.stringify(manifest[key]) !== JSON.stringify(value)) {
      problems.push(`package.json: "${key}" must be ${JSON.stringify(value)}`);
    }
  }
  for (const key of ['description', 'homepage', 'repository']) {
    if (!manifest[key]) problems.push(`package.json: "${key}" is missing`);
  }
  for (const script of scripts) {
    if (!manifest.scripts?.[script]) problems.push(`package.json: the script "${script}" is missing`);
  }
  for (const [entry, conditions] of Object.entries(manifest.exports ?? {})) {
    const keys = Object.keys(conditions).join(', ');
    if (keys !== '@foveate/source, types, default') {
      problems.push(
        `package.json: exports["${entry}"] has ${keys}; expected @foveate/source, types, default`,
      );
    }
  }
  // Of what is needed at run time, only the `./testing` entry may have peers that nothing else has.
  const places = { dependencies: {}, peerDependencies: { testing: true }, devDependencies: { test: true } };
  for (const [kind, place] of Object.entries(places)) {
    for (const dependency of Object.keys(manifest[kind] ?? {})) {
      const problem = importProblem(manifest.name, { test: false, testing: false, ...place }, dependency);
      if (problem !== undefined) problems.push(`package.json: ${kind}: ${problem}`);
    }
  }
  return problems;
}

/**
 * What is wrong with the list of files in a packed package.
 *
 * @param {any} manifest
 * @param {string[]} files
 * @returns {string[]}
 */
export function tarballProblems(manifest, files) {
  const problems = [];
  for (const file of ['README.md', 'LICENSE']) {
    if (!files.includes(file)) problems.push(`the packed package has no ${file}`);
  }
  for (const entry of Object.values(manifest.exports ?? {})) {
    for (const file of Object.values(entry)) {
      if (!files.includes(file.slice(2)))
        problems.push(`the packed package has no ${file}, named in "exports"`);
    }
  }
  for (const file of files) {
    if (/\.test\.[^/]*$|^node_modules\/|^\.reports\//.test(file)) {
      problems.push(`the packed package must not have ${file}`);
    }
  }
  return problems;
}

/**
 * Links of a README that lead to no file of the packed package: on npm they would lead nowhere.
 *
 * @param {string} readme
 * @param {string[]} files
 * @returns {string[]}
 */
export function linkProblems(readme, files) {
  const targets = [...readme.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target);
  return targets
    .filter((target) => !/^(https?:|#)/.test(target) && !files.includes(target.replace(/#.*/, '')))
    .map((target) => `README.md links to ${target}, which is not packed: link to the file on GitHub`);
}
